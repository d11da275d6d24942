//! People: they make pools, volumes, hosts and attachments, extend, switch over, cordon, forget nodes, and delete; ask again when the answer
//! was lost, with the same key; and write over what they have seen only.

use super::client::Life;
use super::net::{ApiAnswer, ApiRequest, serve_api};
use super::seat::Seat;
use super::sim::Sim;
use crate::world::Random;
use axum::http::StatusCode;
use cluster::key;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How long a person waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often one asks again.
const TRIES_MAX: u32 = 6;

/// Somebody who wants things.
pub struct Person {
    sim: Arc<Sim>,
    life: Arc<Life>,
    random: Random,
    keys: u32,
}

impl Person {
    /// One more.
    pub fn new(sim: &Arc<Sim>, name: &str) -> Person {
        Person {
            sim: sim.clone(),
            life: Life::new(name.into()),
            random: sim.fork(),
            keys: 0,
        }
    }

    /// Want something every now and then, for ever.
    pub async fn want_things(mut self, seats: Vec<Arc<Seat>>) {
        loop {
            sleep(Duration::from_millis(100 + self.random.below(2_500))).await;
            self.want_something(&seats).await;
        }
    }

    async fn want_something(&mut self, seats: &[Arc<Seat>]) {
        match self.random.below(25) {
            0..3 => self.create_pool().await,
            3..8 => self.create_volume().await,
            8..10 => self.create_host().await,
            10..13 => self.attach().await,
            13 => self.delete_one("attachments", Person::attachment).await,
            14 | 15 => self.extend().await,
            16 => self.fail_over().await,
            17 => self.cordon(seats).await,
            18 => self.delete_one("volumes", Person::volume).await,
            19 => self.delete_one("pools", Person::pool).await,
            20 => self.delete_one("hosts", Person::host).await,
            21 => self.add_node(seats),
            _ => self.forget_node(seats).await,
        }
    }

    fn pool(&mut self) -> String {
        format!("p{}", self.random.below(4))
    }
    fn volume(&mut self) -> String {
        format!("v{}", self.random.below(8))
    }
    fn host(&mut self) -> String {
        format!("h{}", self.random.below(3))
    }
    fn attachment(&mut self) -> String {
        format!("{}.{}", self.volume(), self.host())
    }

    async fn create_pool(&mut self) {
        let legs = 1 + self.random.below(3);
        let protection = match legs {
            1 => json!({"kind": "none"}),
            legs => json!({"kind": "mirror", "legs": legs}),
        };
        let body = json!({
            "name": self.pool(), "capacity": format!("{}GiB", 1 + self.random.below(9)),
            "protection": protection, "controller_count": 1 + self.random.below(2),
        });
        self.create("pools", body).await;
    }

    async fn create_volume(&mut self) {
        let size = format!("{}MiB", 4 + self.random.below(3000));
        let body = json!({"name": self.volume(), "pool": self.pool(), "size": size});
        self.create("volumes", body).await;
    }

    async fn create_host(&mut self) {
        let name = self.host();
        let nqn = format!("nqn.2024-01.org.example:{name}");
        self.create("hosts", json!({"name": name, "nqn": nqn})).await;
    }

    async fn attach(&mut self) {
        let body = json!({"volume": self.volume(), "host": self.host()});
        self.create("attachments", body).await;
    }

    /// Mostly with a key, and then asked until answered.
    async fn create(&mut self, noun: &str, body: Value) {
        let path = format!("/v1/{noun}");
        if self.random.one_in(6) {
            self.ask("POST", path, Vec::new(), &body).await;
            return;
        }
        self.keys += 1;
        let idempotency = format!("{}-{}", self.life.name, self.keys);
        let mut again = 1 + u32::from(self.random.one_in(4));
        for _ in 0..TRIES_MAX {
            let headers = vec![("idempotency-key", idempotency.clone())];
            let answer = self.ask("POST", path.clone(), headers, &body).await;
            let Some(answer) = answer.filter(|answer| answer.status != StatusCode::SERVICE_UNAVAILABLE)
            else {
                sleep(Duration::from_millis(200 + self.random.below(2_000))).await;
                continue;
            };
            if answer.status.is_success() {
                let id = |pointer| Some(answer.json().pointer(pointer)?.to_string());
                let made = id("/resource/id").or_else(|| id("/id")).unwrap_or_default();
                let location = answer.location.clone().unwrap_or_default();
                let mut oracle = self.sim.oracle.lock().expect("one thread");
                oracle.made(&idempotency, &format!("{made} {location}"));
            }
            again -= 1;
            if again == 0 {
                return;
            }
        }
    }

    /// Read, then write over what was read.
    async fn patch(&mut self, noun: &str, name: &str, record: &str, body: Value) {
        let path = format!("/v1/{noun}/{name}");
        let shown = self.ask("GET", path.clone(), Vec::new(), &Value::Null).await;
        let Some((seen, id)) =
            shown.and_then(|shown| Some((shown.etag?, shown.json()["id"].as_str()?.to_owned())))
        else {
            return;
        };
        sleep(Duration::from_millis(self.random.below(5_000))).await;
        let headers = vec![("if-match", format!("\"{seen}\""))];
        let written = self.ask("PATCH", path, headers, &body).await;
        let written = written.filter(|written| written.status.is_success());
        if let Some(at) = written.and_then(|written| written.etag).filter(|at| *at != seen) {
            let mut oracle = self.sim.oracle.lock().expect("one thread");
            oracle.matched(&format!("{record}{id}"), seen, at);
        }
    }

    async fn extend(&mut self) {
        let (name, size) = (self.volume(), 4 + self.random.below(6000));
        let body = json!({"size": format!("{size}MiB")});
        self.patch("volumes", &name, key::VOLUMES, body).await;
    }

    async fn cordon(&mut self, seats: &[Arc<Seat>]) {
        let seat = &seats[self.random.below(seats.len() as u64) as usize];
        let (noun, record) = nouns_of(seat);
        let body = json!({"cordoned": self.random.one_in(3)});
        self.patch(noun, &seat.name, record, body).await;
    }

    async fn fail_over(&mut self) {
        let path = format!("/v1/pools/{}/failover", self.pool());
        let body = match self.random.below(4) {
            0 => json!({"to": format!("c{}", self.random.below(3))}),
            _ => json!({}),
        };
        self.ask("POST", path, Vec::new(), &body).await;
    }

    async fn delete_one(&mut self, noun: &str, which: impl Fn(&mut Person) -> String) {
        let name = which(self);
        self.delete(noun, name).await;
    }

    async fn delete(&mut self, noun: &str, name: String) {
        self.ask("DELETE", format!("/v1/{noun}/{name}"), Vec::new(), &Value::Null)
            .await;
    }

    /// One that was never started.
    fn add_node(&mut self, seats: &[Arc<Seat>]) {
        if let Some(seat) = seats.iter().find(|seat| seat.is_new()) {
            seat.start(&self.sim);
        }
    }

    /// Only one that is not in use can be, and never the first of a kind; it is switched off when that was answered.
    async fn forget_node(&mut self, seats: &[Arc<Seat>]) {
        let seat = &seats[self.random.below(seats.len() as u64) as usize];
        if seat.is_first() {
            return;
        }
        let (noun, _) = nouns_of(seat);
        let path = format!("/v1/{noun}/{}", seat.name);
        let answer = self.ask("DELETE", path, Vec::new(), &Value::Null).await;
        if answer.is_some_and(|answer| answer.status.is_success()) {
            seat.retire(&self.sim);
        }
    }

    /// Every node may be used again: what waits for one that is cordoned goes on.
    pub async fn uncordon_all(&mut self, seats: &[Arc<Seat>]) {
        for seat in seats {
            let (noun, _) = nouns_of(seat);
            let path = format!("/v1/{noun}/{}", seat.name);
            self.ask("PATCH", path, Vec::new(), &json!({"cordoned": false}))
                .await;
        }
    }

    /// Everything that can go goes: attachments, volumes, pools, hosts.
    pub async fn delete_everything(&mut self) {
        for noun in ["attachments", "volumes", "pools", "hosts"] {
            for _ in 0..30 {
                let listed = self
                    .ask("GET", format!("/v1/{noun}"), Vec::new(), &Value::Null)
                    .await;
                let listed = listed.map(|listed| listed.json()).unwrap_or_default();
                let items = listed["items"].as_array().cloned().unwrap_or_default();
                if items.is_empty() {
                    break;
                }
                for id in items.iter().filter_map(|item| item["id"].as_str()) {
                    self.delete(noun, id.to_owned()).await;
                }
                sleep(Duration::from_secs(2)).await;
            }
        }
    }

    async fn ask(
        &mut self,
        method: &'static str,
        path: String,
        headers: Vec<(&'static str, String)>,
        body: &Value,
    ) -> Option<ApiAnswer> {
        let text = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let request = ApiRequest {
            method,
            path,
            headers,
            body: text,
        };
        let server = self.random.below(2) as usize;
        let (sim, sent) = (self.sim.clone(), request.clone());
        let serve = move || serve_api(sim.clone(), server, sent.clone());
        let answer = self.sim.call(serve, PATIENCE).await;
        if let Some(location) = answer.as_ref().and_then(|answer| answer.location.as_ref()) {
            self.sim.oracle.lock().expect("one thread").promised(location);
        }
        self.sim.say(|| {
            let said = answer
                .as_ref()
                .map_or_else(|| "no answer".into(), ApiAnswer::in_words);
            let body = String::from_utf8_lossy(&request.body);
            let path = super::trace::shortened(&request.path);
            format!("{:<10} {method} {path} {body}: {said}", self.life.name)
        });
        answer
    }
}

fn nouns_of(seat: &Seat) -> (&'static str, &'static str) {
    match seat.kind {
        control::agent::NodeKind::DiskNode => ("disk-nodes", key::DISK_NODES),
        control::agent::NodeKind::ControllerNode => ("controller-nodes", key::CONTROLLER_NODES),
    }
}

impl ApiAnswer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
    fn in_words(&self) -> String {
        let detail = self.json()["detail"].as_str().map(ToOwned::to_owned);
        let etag = self.etag.map(|etag| format!(" @{etag}"));
        format!(
            "{}{}",
            self.status.as_u16(),
            detail
                .map(|detail| format!(" {detail}"))
                .or(etag)
                .unwrap_or_default()
        )
    }
}
