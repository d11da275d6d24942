//! Joining, and saying hello: how nodes become known and stay so.

use crate::cluster_record::ensure_cluster;
use crate::error::ApiError;
use crate::fresh::Fresh;
use crate::lookup::{Named, take_name};
use crate::request::{Bearer, Body, unauthorized};
use crate::routes::App;
use crate::secret;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use cluster::event::SubjectKind;
use cluster::key::NameKind;
use cluster::spec::NodeSpec;
use cluster::{ControllerNodeId, DiskNodeId};
use control::agent::{Hello, JoinRequest, JoinResponse, NodeKind};
use control::problem::ProblemKind;
use control::rest::parse_name;
use serde::Serialize;
use std::net::SocketAddr;
use store::{Txn, transaction};
use uuid::Uuid;

/// `POST /internal/v1/join`: a node becomes part of the cluster, or, asking again, renews its addresses.
pub(crate) async fn join(
    State(app): State<App>,
    Bearer(token): Bearer,
    Body(request): Body<JoinRequest>,
) -> Result<Json<JoinResponse>, ApiError> {
    let cluster = ensure_cluster(&app.store, app.options.join_token.as_deref()).await?;
    let own = app
        .options
        .join_token
        .as_deref()
        .is_some_and(|own| secret::same(own, &token));
    if !secret::same(&cluster.join_token, &token) && !own {
        return Err(unauthorized("the join token is not the cluster's"));
    }
    check_request(&request)?;
    let agent_token = match request.kind {
        NodeKind::DiskNode => join_as::<DiskNodeId>(&app, &request).await?,
        NodeKind::ControllerNode => join_as::<ControllerNodeId>(&app, &request).await?,
    };
    Ok(Json(JoinResponse { agent_token }))
}

fn check_request(request: &JoinRequest) -> Result<(), ApiError> {
    parse_name("name", &request.name)?;
    check_address("agent_address", request.agent_address)?;
    check_address("fabric_address", request.fabric_address)?;
    if request.location.chars().count() > 255 || request.location.chars().any(char::is_control) {
        let detail = "location is too long or not printable";
        return Err(ApiError::refused(
            ProblemKind::InvalidValue,
            detail,
            "use at most 255 printable characters",
        ));
    }
    Ok(())
}

/// What nobody could connect to is refused before somebody tries.
fn check_address(field: &str, address: SocketAddr) -> Result<(), ApiError> {
    if address.ip().is_unspecified() || address.port() == 0 {
        let detail = format!("{field} {address} is nothing that others could connect to");
        let hint = "give the node an address of its machine, and a port";
        return Err(ApiError::refused(ProblemKind::InvalidValue, detail, hint));
    }
    Ok(())
}

/// What the two kinds of nodes differ in here.
trait NodeId: Copy + Send + Sync + Serialize + serde::de::DeserializeOwned {
    const KIND: NodeKind;
    const SUBJECT: SubjectKind;
    fn of(id: Uuid) -> Self;
}
impl NodeId for DiskNodeId {
    const KIND: NodeKind = NodeKind::DiskNode;
    const SUBJECT: SubjectKind = SubjectKind::DiskNode;
    fn of(id: Uuid) -> Self {
        DiskNodeId(id)
    }
}
impl NodeId for ControllerNodeId {
    const KIND: NodeKind = NodeKind::ControllerNode;
    const SUBJECT: SubjectKind = SubjectKind::ControllerNode;
    fn of(id: Uuid) -> Self {
        ControllerNodeId(id)
    }
}

async fn join_as<Id: NodeId>(app: &App, request: &JoinRequest) -> Result<String, ApiError>
where
    NodeSpec<Id>: Named,
{
    let (fresh, drawn) = (
        &Fresh::draw(app),
        &secret::draw_agent_token(app.store.outside(), Id::KIND, request.id),
    );
    transaction(&app.store, |txn| join_in::<Id>(txn, request, fresh, drawn)).await
}

async fn join_in<Id: NodeId>(
    txn: Txn,
    request: &JoinRequest,
    fresh: &Fresh,
    drawn: &str,
) -> Result<String, ApiError>
where
    NodeSpec<Id>: Named,
{
    let key = <NodeSpec<Id> as Named>::key(request.id);
    if let Some(mut present) = txn.get::<NodeSpec<Id>>(&key).await? {
        renew(&txn, &key, &mut present, request.addresses(), request.incarnation)?;
        return Ok(present.agent_token);
    }
    take_name(&txn, <NodeSpec<Id> as Named>::KIND, &request.name, request.id).await?;
    let spec = NodeSpec {
        id: Id::of(request.id),
        name: request.name.clone(),
        agent_address: request.agent_address,
        fabric_address: request.fabric_address,
        agent_token: drawn.into(),
        incarnation: request.incarnation,
        location: request.location.clone(),
        cordoned: false,
    };
    txn.put(key, &spec)?;
    let text = format!(
        "{} {} joined",
        NameKind::as_str(<NodeSpec<Id> as Named>::KIND),
        spec.name
    );
    fresh.tell(&txn, Id::SUBJECT, request.id, text)?;
    Ok(spec.agent_token)
}

/// Addresses: of the agent, and on the fabric.
type Addresses = (SocketAddr, SocketAddr);

trait HasAddresses {
    fn addresses(&self) -> Addresses;
}
impl HasAddresses for JoinRequest {
    fn addresses(&self) -> Addresses {
        (self.agent_address, self.fabric_address)
    }
}
impl HasAddresses for Hello {
    fn addresses(&self) -> Addresses {
        (self.agent_address, self.fabric_address)
    }
}

/// Write what changed, if anything did: workers plan anew whenever the record is written.
fn renew<Id: Serialize>(
    txn: &Txn,
    key: &str,
    spec: &mut NodeSpec<Id>,
    (agent_address, fabric_address): Addresses,
    incarnation: cluster::Incarnation,
) -> Result<(), ApiError> {
    let now = (spec.agent_address, spec.fabric_address, spec.incarnation);
    if now != (agent_address, fabric_address, incarnation) {
        (spec.agent_address, spec.fabric_address, spec.incarnation) =
            (agent_address, fabric_address, incarnation);
        txn.put(key, spec)?;
    }
    Ok(())
}

/// `POST /internal/v1/hello`: a node was started again.
pub(crate) async fn hello(
    State(app): State<App>,
    Bearer(token): Bearer,
    Body(hello): Body<Hello>,
) -> Result<StatusCode, ApiError> {
    if secret::claimed_by(&token) != Some((hello.kind, hello.id)) {
        return Err(unauthorized("the token is another node's, or none"));
    }
    check_address("agent_address", hello.agent_address)?;
    check_address("fabric_address", hello.fabric_address)?;
    match hello.kind {
        NodeKind::DiskNode => hello_of::<DiskNodeId>(&app, &token, &hello).await?,
        NodeKind::ControllerNode => hello_of::<ControllerNodeId>(&app, &token, &hello).await?,
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn hello_of<Id: NodeId>(app: &App, token: &str, hello: &Hello) -> Result<(), ApiError>
where
    NodeSpec<Id>: Named,
{
    let body = |txn: Txn| async move {
        let key = <NodeSpec<Id> as Named>::key(hello.id);
        let mut spec = authorized::<Id>(&txn, token, hello.id).await?;
        renew(&txn, &key, &mut spec, hello.addresses(), hello.incarnation)
    };
    transaction(&app.store, body).await
}

/// The record of the node whose token it is.
async fn authorized<Id: NodeId>(txn: &Txn, token: &str, id: Uuid) -> Result<NodeSpec<Id>, ApiError>
where
    NodeSpec<Id>: Named,
{
    let spec = txn.get::<NodeSpec<Id>>(<NodeSpec<Id> as Named>::key(id)).await?;
    let spec = spec.filter(|spec| secret::same(&spec.agent_token, token));
    spec.ok_or_else(|| unauthorized("the token is no node's, or the node was removed"))
}

/// The controller node whose token it is.
///
/// Errors: nobody's.
pub(crate) async fn authorized_controller(
    txn: &Txn,
    token: &str,
) -> Result<NodeSpec<ControllerNodeId>, ApiError> {
    match secret::claimed_by(token) {
        Some((NodeKind::ControllerNode, id)) => authorized(txn, token, id).await,
        _ => Err(unauthorized("the token is no controller node's")),
    }
}
