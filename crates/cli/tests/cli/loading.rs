//! `pilot load`.

use crate::support::{Scripted, folder, run};
use serde_json::Value;
use std::fs;

#[test]
fn the_report_of_a_load_says_how_many_users_and_every_point_has_its_n() {
    let folder = folder();
    let server = Scripted::start(|_| (200, "yes".to_owned()));
    fs::write(folder.path().join("p.txt"), "is it so?\nand this?\n").expect("a file");
    let url = format!("http://{}/v1", server.address);
    let goal = ["--users", "1,2", "--rates", "0", "--seconds", "0.5", "--warm-up", "0.1", "--within-ms", "60000"];
    let most = ["--max-requests", "400", "--report", "load.html", "--json"];
    let fixed = ["pilot", "load", "--model", "m", "--url", &url, "--data", "p.txt"];
    let said = run(folder.path(), &[&fixed[..], &goal, &most].concat());
    assert_eq!(said.code, 0, "{}", said.err);
    let object = said.json();
    let users = object["most_users"].as_u64().expect("a number");
    let page = fs::read_to_string(folder.path().join("load.html")).expect("a report");
    assert!(page.contains(&format!("{users} users with 95")), "{page}");
    let closed = object["closed"].as_array().expect("steps");
    for step in closed.iter().filter(|step| step["n"] != 0) {
        assert!(page.contains(&format!("n = {}", step["n"])), "{step}");
    }
    let beside: Value =
        serde_json::from_str(&fs::read_to_string(folder.path().join("load.json")).expect("figures")).expect("JSON");
    assert_eq!(beside["most_users"], object["most_users"]);
    let named = run(folder.path(), &[&fixed[..], &["--report", "load.json"]].concat());
    assert!(named.code == 64 && named.err.contains("its name ends in .html"), "{}", named.err);
}
