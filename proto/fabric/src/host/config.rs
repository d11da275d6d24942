//! What an association has to be told before it can begin.

use block::Duration;
use std::net::SocketAddr;

/// How a host reaches one controller.
#[derive(Clone, Debug)]
pub struct AssociationConfig {
    /// The host's name, as access lists know it (Base 2.1, section 4.7).
    pub host_nqn: String,
    /// The host's identifier: reservations and fencing go by it. A controller node takes a fresh one at each start (R2).
    pub host_id: [u8; 16],
    /// Every attempt to connect goes under the next identifier (`host_id` counted up). Reservations then tell what an earlier
    /// association of this very host may still have in the network, or unread at the controller, from what the present one sends.
    pub renew_host_id: bool,
    /// The subsystem to connect to.
    pub subsystem_nqn: String,
    /// Where its controller listens.
    pub address: SocketAddr,
    /// I/O queues wanted, each a TCP connection; the controller may grant fewer.
    pub io_queues: u16,
    /// Commands in flight on one I/O queue; limited further by the controller's CAP.MQES.
    pub queue_depth: u16,
    /// Ask for submission queue heads in completions of I/O queues (Base 2.1, section 3.3.2.1). This end counts what it has in flight
    /// anyway; without them a controller may end a read with its data's last PDU alone (NVMe/TCP Transport 1.1, SUCCESS).
    pub sq_flow_control: bool,
    /// Keep-alive timeout in milliseconds; zero for none. A keep-alive is sent every half of it.
    pub kato_ms: u32,
    /// Offer digests over PDU headers (NVMe/TCP Transport 1.1, section 3.3.1.1).
    pub header_digest: bool,
    /// Offer digests over PDU data.
    pub data_digest: bool,
    /// From the first connection to a usable association; beyond it the attempt has failed.
    pub connect_timeout: Duration,
    /// A command unanswered for so long ends the association.
    pub command_timeout: Duration,
    /// How long to wait after the first failure before connecting again; doubles with each further failure.
    pub reconnect_delay: Duration,
    /// What that doubling stops at.
    pub reconnect_delay_max: Duration,
}

impl AssociationConfig {
    /// The well-known name of discovery subsystems (Base 2.1, section 4.7).
    pub const DISCOVERY_NQN: &'static str = "nqn.2014-08.org.nvmexpress.discovery";

    /// A configuration with one I/O queue of 128, no digests, a keep-alive timeout of five seconds, five seconds to
    /// connect, ten for a command, reconnecting after 100 ms up to 2 s.
    pub fn new(
        host_nqn: &str,
        host_id: [u8; 16],
        subsystem_nqn: &str,
        address: SocketAddr,
    ) -> AssociationConfig {
        AssociationConfig {
            host_nqn: host_nqn.to_owned(),
            host_id,
            renew_host_id: false,
            subsystem_nqn: subsystem_nqn.to_owned(),
            address,
            io_queues: 1,
            queue_depth: 128,
            sq_flow_control: true,
            kato_ms: 5_000,
            header_digest: false,
            data_digest: false,
            connect_timeout: Duration::from_secs(5),
            command_timeout: Duration::from_secs(10),
            reconnect_delay: Duration::from_millis(100),
            reconnect_delay_max: Duration::from_secs(2),
        }
    }

    /// Whether this is an association with a discovery controller: no I/O queues, no namespaces.
    pub fn is_discovery(&self) -> bool {
        self.subsystem_nqn == AssociationConfig::DISCOVERY_NQN
    }
}
