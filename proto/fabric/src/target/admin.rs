//! Admin commands (Base 2.1, section 5.1): who answers which, events, and Abort.

use super::Target;
use super::command::{CommandRef, Refused, Response, Stage};
use super::identify::{self, View};
use super::log_page;
use super::queue::{Phase, Queue};
use super::subsystem::SubsystemRef;
use crate::driver::ConnectionId;
use block::{Memory, Time};
use nvme::command::{Abort, GetLogPage};
use nvme::log::LogPageIdentifier;
use nvme::{AdminCommand, Cntlid, Status};

impl Target {
    pub(crate) fn execute_admin(
        &mut self,
        now: Time,
        id: ConnectionId,
        slot: u16,
        command: AdminCommand,
        memory: &mut dyn Memory,
    ) {
        let Phase::Queue(queue) = self.connections[id].phase else {
            unreachable!("admin commands are parsed on queues only");
        };
        let response = match command {
            AdminCommand::Identify(identify) => {
                identify::data(&self.view(&queue), &identify).map(Response::bytes)
            }
            AdminCommand::GetLogPage(page) => self.log_page(&queue, &page, memory),
            AdminCommand::GetFeatures(features) => self.get_features(&queue, &features),
            AdminCommand::SetFeatures(features) => self.set_features(now, &queue, &features),
            AdminCommand::KeepAlive => Ok(Response::success()),
            AdminCommand::Abort(abort) => Ok(self.abort(&queue, abort, memory)),
            AdminCommand::AsynchronousEventRequest => {
                return self.take_event_request(id, slot, &queue, memory);
            }
        };
        self.respond(id, slot, response.unwrap_or_else(Response::from), memory);
        self.pump_events(queue.subsystem, queue.cntlid, memory);
    }

    /// What an admin command may look at.
    pub(crate) fn view(&self, queue: &Queue) -> View<'_> {
        let subsystem = self.subsystem(queue.subsystem).expect("its queue is alive");
        View {
            config: &self.config,
            subsystem,
            controller: &subsystem.controllers[&queue.cntlid],
            discovery: queue.subsystem == SubsystemRef::Discovery,
        }
    }

    fn log_page(
        &mut self,
        queue: &Queue,
        page: &GetLogPage,
        memory: &mut dyn Memory,
    ) -> Result<Response, Refused> {
        let _ = memory;
        let contents = match page.lid {
            LogPageIdentifier::Discovery if queue.subsystem == SubsystemRef::Discovery => {
                let host = &self.view(queue).controller.host;
                log_page::discovery(self.discovery_generation, self.discoverable(host))
            }
            _ => log_page::contents(&self.view(queue), page)?,
        };
        let bytes = log_page::part(&contents, page)?;
        let controller = self
            .controller_mut(queue.subsystem, queue.cntlid)
            .expect("its queue is alive");
        if !page.retain_asynchronous_event {
            log_page::was_read(controller, page.lid);
        }
        Ok(Response::bytes(bytes))
    }

    fn take_event_request(&mut self, id: ConnectionId, slot: u16, queue: &Queue, memory: &mut dyn Memory) {
        let name = self.name(id, slot);
        let controller = self
            .controller_mut(queue.subsystem, queue.cntlid)
            .expect("its queue is alive");
        if !controller.events.request(name) {
            let status = Status::ASYNC_EVENT_LIMIT_EXCEEDED.do_not_retry();
            return self.respond(id, slot, status.into(), memory);
        }
        self.command_mut(name).expect("just named").stage = Stage::WaitingForEvent;
        self.pump_events(queue.subsystem, queue.cntlid, memory);
    }

    /// Tells a host what it waits to hear.
    pub(crate) fn pump_events(&mut self, subsystem: SubsystemRef, cntlid: Cntlid, memory: &mut dyn Memory) {
        while let Some(controller) = self.controller_mut(subsystem, cntlid) {
            let Some((request, kind)) = controller.events.next() else {
                return;
            };
            let told = Response::result(kind.event().encode().into());
            self.respond(request.connection, request.slot, told, memory);
        }
    }

    /// Abort (Base 2.1, section 5.1.1): only what waits here is aborted; what was handed out runs to its end.
    fn abort(&mut self, queue: &Queue, abort: Abort, memory: &mut dyn Memory) -> Response {
        match self.find(queue, abort).filter(|name| self.may_abort(*name)) {
            Some(name) => {
                let controller = self
                    .controller_mut(queue.subsystem, queue.cntlid)
                    .expect("its queue is alive");
                controller.events.forget(&name);
                let status = Status::ABORT_REQUESTED.do_not_retry();
                self.respond(name.connection, name.slot, status.into(), memory);
                Response::result(Abort::ABORTED.into())
            }
            None => Response::result(Abort::NOT_ABORTED.into()),
        }
    }

    fn may_abort(&self, name: CommandRef) -> bool {
        let command = self.command(name).expect("just found");
        matches!(
            command.stage,
            Stage::WaitingForMemory { .. } | Stage::WaitingForOrphans | Stage::WaitingForEvent
        )
    }

    /// The command that an Abort names, if it is under way.
    fn find(&self, queue: &Queue, abort: Abort) -> Option<CommandRef> {
        let controller = self.controller(queue.subsystem, queue.cntlid)?;
        let connection = match abort.sqid.is_admin() {
            true => controller.admin,
            false => *controller.queues.get(&abort.sqid)?,
        };
        let mut commands = self.connections.get(connection)?.commands.iter();
        let (slot, command) = commands.find(|(_, command)| command.cid() == abort.cid)?;
        Some(CommandRef {
            connection,
            slot,
            serial: command.serial,
        })
    }
}
