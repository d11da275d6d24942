//! Wishes that are refused, by `trestle` and by REST: the exact words, the exit code, and that nobody else notices.

use super::rest::call;
use super::session::session;
use super::shared::shared;
use serde_json::json;

const NAMES: &str = "use 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit";

#[test]
fn odd_names_and_sizes_are_refused() {
    let shared = shared();
    let fabric = &shared.fabric;
    for name in ["", "Upper", "a b", "../up", "a.b", "ä", "a-", "x\n"] {
        let words = format!("name {name:?} is no name. {NAMES}");
        fabric
            .cli(&["volume", "create", "--pool", "p", "--size", "4KiB", "--", name])
            .refused(4, &words);
        fabric
            .cli(&["pool", "create", "--capacity", "16MiB", "--", name])
            .refused(4, &words);
        let nqn = "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-0000-0000-000000000001";
        fabric
            .cli(&["host", "create", "--nqn", nqn, "--", name])
            .refused(4, &words);
    }
    let volume = |size: &str| fabric.cli(&["volume", "create", "v", "--pool", "p", "--size", size]);
    let range = "is not between 4096 and 1125899906842624 bytes. choose from 4 KiB to 1024 TiB";
    volume("0").refused(4, &format!("size 0 {range}"));
    volume("2PiB").refused(4, &format!("size 2251799813685248 {range}"));
    volume("4097").refused(
        4,
        "size 4097 bytes is not a multiple of 4096. the next multiple is 8192",
    );
    let none = "'1 potato' is not a size: write a whole number and a unit, such as 100GiB";
    volume("1 potato").refused_with(2, none);
    volume("-1").refused_with(2, "unexpected argument '-1' found");
    volume("99999999999999999999").refused_with(2, "'99999999999999999999' is not a size");
    let pool = |arguments: &[&str]| fabric.cli(&[&["pool", "create", "q"], arguments].concat());
    pool(&["--capacity", "0"]).refused(
        4,
        "capacity 0 is not between 1 and 1152921504606846976 bytes. choose from 1 B to 1048576 TiB",
    );
    pool(&["--capacity", "16MiB", "--mirror", "5"])
        .refused(4, "protection.legs 5 is not between 2 and 4. choose from 2 to 4");
    pool(&["--capacity", "16MiB", "--controllers", "0"]).refused(
        4,
        "controller_count 0 is not between 1 and 15. choose from 1 to 15",
    );
    fabric.cli(&["host", "create", "h", "--nqn", "iqn.1998-01.com.x:y"]).refused(
        4,
        "nqn \"iqn.1998-01.com.x:y\" is no NVMe qualified name: it does not begin with nqn.yyyy-mm. and a domain. give the \
         host's own NQN: on Linux, what `cat /etc/nvme/hostnqn` prints",
    );
    shared.neighbour_goes_on();
}

#[test]
fn what_is_unknown_taken_or_in_use_is_refused() {
    let shared = shared();
    let fabric = &shared.fabric;
    let unknown = |arguments: &[&str], noun: &str, name: &str| {
        let words = format!("there is no {noun} {name:?}. see what there is: GET /v1/{noun}s");
        fabric.cli(arguments).refused(3, &words);
    };
    unknown(
        &["volume", "create", "v", "--pool", "none", "--size", "1MiB"],
        "pool",
        "none",
    );
    unknown(&["pool", "show", "none"], "pool", "none");
    unknown(&["pool", "failover", "none"], "pool", "none");
    unknown(&["pool", "failover", "p", "--to", "c9"], "controller-node", "c9");
    unknown(
        &["volume", "attach", "neighbour", "--host", "none"],
        "host",
        "none",
    );
    unknown(
        &["volume", "attach", "none", "--host", "nqn.2014-08.org.x:y"],
        "volume",
        "none",
    );
    unknown(&["disk-nodes", "show", "d9"], "disk-node", "d9");
    unknown(&["disk-nodes", "cordon", "../d1"], "disk-node", "../d1");
    unknown(&["operation", "show", "none"], "operation", "none");

    let volumes = fabric.json(&["volume", "list"]);
    let neighbour = volumes
        .as_array()
        .and_then(|all| all.iter().find(|one| one["name"] == "neighbour"));
    let neighbour = neighbour.expect("the neighbour's volume").clone();
    let (id, host) = (
        neighbour["id"].as_str().unwrap(),
        neighbour["hosts"][0]["name"].as_str().unwrap(),
    );
    fabric
        .cli(&["volume", "create", "neighbour", "--pool", "p", "--size", "1MiB"])
        .refused_with(
            4,
            &format!("there is a volume of the name \"neighbour\", with the id {id}"),
        );
    fabric
        .cli(&["pool", "create", "p", "--capacity", "4MiB"])
        .refused_with(4, "there is a pool of the name \"p\"");
    fabric.cli(&["volume", "attach", "neighbour", "--host", host]).refused(
        4,
        &format!(
            "volume neighbour is given to host {host} already. see it: GET /v1/attachments/neighbour.{host}"
        ),
    );
    fabric.cli(&["volume", "delete", "neighbour"]).refused(
        4,
        &format!(
            "volume neighbour is given to host/{host}. detach it first: DELETE /v1/attachments/neighbour.HOST"
        ),
    );
    fabric.cli(&["host", "delete", host]).refused(
        4,
        &format!(
            "host {host} is given volume/neighbour. detach them first: DELETE /v1/attachments/VOLUME.{host}"
        ),
    );
    fabric
        .cli(&["pool", "delete", "p"])
        .refused_with(4, "pool p has volumes: volume/neighbour");
    fabric
        .cli(&["volume", "extend", "neighbour", "--size", "1MiB"])
        .refused_with(4, "volume neighbour has 32 MiB");
    shared.neighbour_goes_on();
}

#[test]
fn rest_keeps_to_what_one_saw_and_does_once_what_is_asked_twice() {
    let shared = shared();
    let api = &shared.fabric.apis[0];
    let seen = call(api, "GET", "/v1/disk-nodes/d1", &[], "");
    let (tag, revision) = (seen.header("etag").to_owned(), seen.body["revision"].clone());
    let patch = json!({"location": "rack-7"}).to_string();
    let first = call(api, "PATCH", "/v1/disk-nodes/d1", &[("If-Match", &tag)], &patch);
    assert_eq!(first.status, 200, "{first:?}");
    let now = &first.body["revision"];
    let stale = call(api, "PATCH", "/v1/disk-nodes/d1", &[("If-Match", &tag)], &patch);
    let hint = "read it again, decide again, and send the new ETag";
    stale.refused(412, &format!("it is at revision {now}, not at {revision}"), hint);

    let wish = json!({"name": "once", "pool": "p", "size": "1MiB"}).to_string();
    let key = [("Idempotency-Key", "my-key-1")];
    let made = call(api, "POST", "/v1/volumes", &key, &wish);
    let again = call(api, "POST", "/v1/volumes", &key, &wish);
    assert_eq!((made.status, again.status), (202, 202), "{made:?} {again:?}");
    assert_eq!(made.body, again.body, "the same volume, the same operation");
    let other = json!({"name": "other", "pool": "p", "size": "1MiB"}).to_string();
    let reused = call(api, "POST", "/v1/volumes", &key, &other);
    reused.refused(
        422,
        "this Idempotency-Key was used for another request",
        "use a new key for a new request",
    );
    assert_eq!(call(api, "GET", "/v1/volumes/other", &[], "").status, 404);
    shared
        .fabric
        .cli(&["volume", "delete", "once", "--wait"])
        .succeeded();
    shared.neighbour_goes_on();
}

#[test]
fn too_little_space_and_too_few_nodes_are_told_in_numbers() {
    let shared = shared();
    let api = &shared.fabric.apis[0];
    let pool = |name: &str, capacity: &str, legs: u8| {
        let protection = json!({"kind": "mirror", "legs": legs});
        let wish = json!({"name": name, "capacity": capacity, "extent": "4MiB", "protection": protection});
        call(api, "POST", "/v1/pools", &[], &wish.to_string())
    };
    let full = pool("huge", "10GiB", 2);
    assert_eq!(full.status, 507, "{full:?}");
    let detail = full.body["detail"].as_str().expect("text");
    assert!(
        detail.starts_with("pool huge: ") && detail.contains("free extents of 4 MiB"),
        "{detail}"
    );
    let few = pool("wide", "8MiB", 4);
    assert_eq!(few.status, 409, "{few:?}");
    let detail = few.body["detail"].as_str().expect("text");
    assert!(detail.contains("needs 4 disk node(s)"), "{detail}");
    let said = shared.fabric.cli(&[
        "pool",
        "create",
        "huge",
        "--capacity",
        "10GiB",
        "--extent-size",
        "4MiB",
    ]);
    said.refused_with(4, "pool huge: ");
    for name in ["huge", "wide"] {
        let shown = shared.fabric.cli(&["pool", "show", name]);
        shown.refused_with(3, "there is no pool");
    }
    shared.neighbour_goes_on();
}

#[test]
fn an_address_without_an_api_server_is_told() {
    let nobody = super::fabric::free_address();
    session(&["--api", &format!("http://{nobody}"), "status"]).refused(
        5,
        &format!(
            "no api-server answers at http://{nobody} (Connection refused (os error 111)); name one with --api or TRESTLE_API"
        ),
    );
}
