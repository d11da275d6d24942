//! Features (Base 2.1, section 5.1.25): which a controller of ours has, and what setting one does.

use super::Target;
use super::command::{Refused, Response};
use super::identify::{DISCOVERY_EVENTS, IO_EVENTS};
use super::queue::Queue;
use super::subsystem::SubsystemRef;
use block::{Duration, Time};
use nvme::async_event::AsyncEventSet;
use nvme::command::{GetFeatures, Select, SetFeatures};
use nvme::feature::{
    ErrorRecovery, FeatureIdentifier, HostIdentifier, KeepAliveTimer, NumberOfQueues, PowerManagement, Switch,
};
use nvme::{InvalidField, Nsid, Status};

const FID_OFFSET: u8 = 40;
const CDW11_OFFSET: u8 = 44;

/// Reservation notifications that can be masked: bits 1 to 3.
const NOTIFICATION_BITS: u32 = 0b1110;

impl Target {
    pub(crate) fn get_features(&self, queue: &Queue, get: &GetFeatures) -> Result<Response, Refused> {
        if get.select != Select::Current {
            return Err(InvalidField::at(FID_OFFSET + 1).into());
        }
        let view = self.view(queue);
        let controller = view.controller;
        let features = controller.features;
        let value = match get.fid {
            FeatureIdentifier::KeepAliveTimer => {
                u32::try_from(controller.keep_alive.as_millis()).expect("it came as 32 bits")
            }
            FeatureIdentifier::AsynchronousEventConfiguration => controller.events.configuration.0,
            _ if view.discovery => return Err(InvalidField::at(FID_OFFSET).into()),
            FeatureIdentifier::Arbitration => features.arbitration,
            FeatureIdentifier::PowerManagement => features.power_management,
            FeatureIdentifier::TemperatureThreshold => features.temperature_threshold,
            FeatureIdentifier::ErrorRecovery => features.error_recovery,
            FeatureIdentifier::WriteAtomicityNormal => features.write_atomicity,
            FeatureIdentifier::VolatileWriteCache => features.write_cache.into(),
            FeatureIdentifier::NumberOfQueues => granted(controller.queues_granted),
            FeatureIdentifier::HostIdentifier => return host_identifier(get, controller.host_id.0),
            FeatureIdentifier::ReservationNotificationMask => {
                self.check_reservations(queue, get.nsid)?;
                controller.notifications.mask(get.nsid.0)
            }
            FeatureIdentifier::ReservationPersistence => {
                self.check_reservations(queue, get.nsid)?;
                let namespace = &view.subsystem.namespaces[&get.nsid.0];
                let reservations = namespace.reservations.as_ref().expect("checked");
                reservations.table.state.persist_through_power_loss.into()
            }
            _ => return Err(InvalidField::at(FID_OFFSET).into()),
        };
        Ok(Response::result(value.into()))
    }

    pub(crate) fn set_features(
        &mut self,
        now: Time,
        queue: &Queue,
        set: &SetFeatures,
    ) -> Result<Response, Refused> {
        if set.save {
            return Err(Status::FEATURE_NOT_SAVEABLE.do_not_retry().into());
        }
        let discovery = queue.subsystem == SubsystemRef::Discovery;
        match set.fid {
            FeatureIdentifier::KeepAliveTimer => self.set_keep_alive(now, queue, set.cdw11),
            FeatureIdentifier::AsynchronousEventConfiguration => self.set_events(queue, set.cdw11, discovery),
            _ if discovery => Err(InvalidField::at(FID_OFFSET).into()),
            FeatureIdentifier::NumberOfQueues => self.set_queues(queue, set.cdw11),
            FeatureIdentifier::HostIdentifier => Err(Status::COMMAND_SEQUENCE_ERROR.do_not_retry().into()),
            FeatureIdentifier::ReservationNotificationMask => self.set_notification_mask(queue, set),
            FeatureIdentifier::ReservationPersistence => {
                Err(Status::FEATURE_NOT_CHANGEABLE.do_not_retry().into())
            }
            _ => self.set_value(queue, set),
        }
    }

    /// Features that are no more than a value.
    fn set_value(&mut self, queue: &Queue, set: &SetFeatures) -> Result<Response, Refused> {
        let controller = self
            .controller_mut(queue.subsystem, queue.cntlid)
            .expect("its queue is alive");
        let features = &mut controller.features;
        let value = set.cdw11;
        match set.fid {
            FeatureIdentifier::Arbitration => features.arbitration = value,
            FeatureIdentifier::TemperatureThreshold => features.temperature_threshold = value,
            FeatureIdentifier::WriteAtomicityNormal => features.write_atomicity = value & 1,
            FeatureIdentifier::VolatileWriteCache => features.write_cache = Switch::parse(value).enabled,
            FeatureIdentifier::PowerManagement if PowerManagement::parse(value).power_state == 0 => {
                features.power_management = value;
            }
            FeatureIdentifier::ErrorRecovery if !ErrorRecovery::parse(value).deallocated_block_error => {
                features.error_recovery = value;
            }
            FeatureIdentifier::PowerManagement | FeatureIdentifier::ErrorRecovery => {
                return Err(InvalidField::at(CDW11_OFFSET).into());
            }
            _ => return Err(InvalidField::at(FID_OFFSET).into()),
        }
        Ok(Response::success())
    }

    fn set_keep_alive(&mut self, now: Time, queue: &Queue, value: u32) -> Result<Response, Refused> {
        let controller = self
            .controller_mut(queue.subsystem, queue.cntlid)
            .expect("its queue is alive");
        controller.keep_alive = Duration::from_millis(KeepAliveTimer::parse(value).kato_ms.into());
        controller.last_heard = now;
        if let Some(deadline) = controller.deadline() {
            self.wake_at(deadline);
        }
        Ok(Response::success())
    }

    fn set_events(&mut self, queue: &Queue, value: u32, discovery: bool) -> Result<Response, Refused> {
        let known = match discovery {
            true => DISCOVERY_EVENTS,
            false => IO_EVENTS.union(AsyncEventSet::SMART_HEALTH),
        };
        if !known.contains(AsyncEventSet(value)) {
            return Err(InvalidField::at(CDW11_OFFSET).into());
        }
        let controller = self
            .controller_mut(queue.subsystem, queue.cntlid)
            .expect("its queue is alive");
        controller.events.configuration = AsyncEventSet(value);
        Ok(Response::success())
    }

    fn set_queues(&mut self, queue: &Queue, value: u32) -> Result<Response, Refused> {
        let wanted = NumberOfQueues::parse(value)?;
        let most = self.config.io_queues_max;
        let controller = self
            .controller_mut(queue.subsystem, queue.cntlid)
            .expect("its queue is alive");
        if !controller.queues.is_empty() {
            return Err(Status::COMMAND_SEQUENCE_ERROR.do_not_retry().into());
        }
        let pairs = wanted
            .submission
            .count()
            .min(wanted.completion.count())
            .min(most.into());
        controller.queues_granted = u16::try_from(pairs).expect("at most what we have");
        Ok(Response::result(granted(controller.queues_granted).into()))
    }

    fn set_notification_mask(&mut self, queue: &Queue, set: &SetFeatures) -> Result<Response, Refused> {
        if set.cdw11 & !NOTIFICATION_BITS != 0 {
            return Err(InvalidField::at(CDW11_OFFSET).into());
        }
        let nsids: Vec<u32> = match set.nsid == Nsid::ALL {
            true => self.reserved_namespaces(queue),
            false => {
                self.check_reservations(queue, set.nsid)?;
                vec![set.nsid.0]
            }
        };
        let controller = self
            .controller_mut(queue.subsystem, queue.cntlid)
            .expect("its queue is alive");
        for nsid in nsids {
            controller.notifications.set_mask(nsid, set.cdw11);
        }
        Ok(Response::success())
    }

    /// The namespaces with reservations that the host sees.
    fn reserved_namespaces(&self, queue: &Queue) -> Vec<u32> {
        let view = self.view(queue);
        let visible = view.subsystem.visible(&view.controller.host);
        let reserved = visible.filter(|(_, namespace)| namespace.reservations.is_some());
        reserved.map(|(nsid, _)| nsid).collect()
    }

    fn check_reservations(&self, queue: &Queue, nsid: Nsid) -> Result<(), Refused> {
        let view = self.view(queue);
        match view.subsystem.visible_namespace(&view.controller.host, nsid.0) {
            Some(namespace) if namespace.reservations.is_some() => Ok(()),
            Some(_) => Err(InvalidField::at(FID_OFFSET).into()),
            None => Err(Status::INVALID_NAMESPACE_OR_FORMAT.do_not_retry().into()),
        }
    }
}

/// Number of Queues, as dword 0 tells it; one where none were asked for yet.
fn granted(pairs: u16) -> u32 {
    let pairs = NumberOfQueues::pairs(pairs.max(1).into());
    pairs.expect("at least one, at most 65534").encode()
}

fn host_identifier(get: &GetFeatures, host_id: [u8; 16]) -> Result<Response, Refused> {
    if !HostIdentifier::parse(get.cdw11).extended {
        return Err(InvalidField::at(CDW11_OFFSET).into());
    }
    Ok(Response::bytes(host_id.to_vec()))
}
