use super::*;

fn parse(text: &str) -> Result<Config> {
    let environment = |name: &str| match name {
        "HOME" => Some("/home/u".to_owned()),
        "OPENAI_API_KEY" => Some("sk-test".to_owned()),
        _ => None,
    };
    Config::parse("c.toml", text, Path::new("/etc/understudy"), &environment)
}

const UPSTREAM: &str = "[upstream.openai]\nbase_url = \"https://api.openai.com/v1\"\n";

#[test]
fn the_template_is_valid_as_it_is_and_with_its_task_uncommented() {
    parse(template::TEMPLATE).expect("the template");
    let (head, task) = template::TEMPLATE.split_once("# [task.triage]").expect("an example task");
    let task: Vec<String> = task.lines().map(|line| line.trim_start_matches("# ").to_owned()).collect();
    let config = parse(&format!("{head}[task.triage]{}", task.join("\n"))).expect("the example task");
    assert_eq!(config.tasks[0].spec.labels, ["spam", "ham"]);
    assert_eq!(config.tasks[0].spec.input.after.as_deref(), Some("<mail>"));
    assert_eq!(config.store.path, Path::new("/etc/understudy/understudy.db"));
    assert_eq!(config.models_dir, Path::new("/home/u/.understudy/models"));
}

#[test]
fn an_error_names_file_line_key_and_remedy() {
    let cases = [
        ("[server]\nlisten = \"nowhere\"\n", "c.toml: line 2: server.listen is not an address"),
        ("[server]\nlisten = \"0.0.0.0:80\"\n", "line 2: server.listen is reachable from other machines"),
        ("[server]\nlistn = \"x\"\n", "line 2: unknown field `listn`"),
        ("[server\n", "line 1:"),
        ("[server]\ntimeout_s = \"soon\"\n", "line 2: invalid type"),
        ("[upstream.a]\nbase_url = \"ftp://x\"\n", "line 2: upstream.a.base_url is not an http(s) URL"),
        ("[upstream.a]\n", "line 1: upstream.a is either base_url"),
        (
            "[upstream.a]\nbase_url = \"http://x\"\napi_key = \"sk-secret\"\n",
            "line 3: upstream.a.api_key is written in",
        ),
        ("[upstream.a]\nbase_url = \"http://x\"\napi_key = \"env:NO\"\n", "environment variable NO, which is not set"),
        ("[model.m]\nupstream = \"b\"\n", "line 2: model.m.upstream is `b`, but no [upstream.…] is configured"),
        (
            "[task.t]\nmode = \"fast\"\n",
            "line 2: task.t.mode is `fast`; it is one of \"observe\", \"shadow\", \"live\"",
        ),
        ("[task.t]\n", "line 1: task.t is no large model"),
        ("[task.t]\nprivacy = \"local_only\"\nepsilon = 2\n", "line 3:"),
        ("[task.t]\nprivacy = \"local_only\"\nepsilon = 2.0\n", "line 3: task.t.epsilon is not between 0 and 1"),
        ("[task.t]\nprivacy = \"local_only\"\nlabels = [\"a\", \"a\"]\n", "line 3: task.t.labels is `a` appears twice"),
        ("[store]\ndurability = \"eternal\"\n", "line 2: store.durability is `eternal`"),
    ];
    for (text, expected) in cases {
        let error = parse(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{error}\nshould contain: {expected}");
        assert!(!error.contains("sk-secret"), "a pasted secret is repeated: {error}");
    }
}

#[test]
fn tasks_keep_the_order_of_the_file() {
    let text = format!(
        "{UPSTREAM}[server]\ndefault_upstream = \"openai\"\ndefault_model = \"m\"\n[task.z]\n[task.a]\n[task.m]\n"
    );
    let config = parse(&text).expect("valid");
    let names: Vec<&str> = config.tasks.iter().map(|task| task.spec.name.as_str()).collect();
    assert_eq!(names, ["z", "a", "m"]);
}

#[test]
fn live_without_audits_is_refused_unless_texts_must_stay() {
    let task = "[task.t]\nmode = \"live\"\naudit = 0.0\n";
    let text = format!("{UPSTREAM}[server]\ndefault_upstream = \"openai\"\ndefault_model = \"m\"\n{task}");
    assert!(parse(&text).expect_err("no audits").to_string().contains("nobody notices"));
    parse(&format!("{task}privacy = \"local_only\"\n")).expect("nobody to ask");
}

#[test]
fn arbitrary_text_never_panics() {
    use proptest::prelude::*;
    proptest!(ProptestConfig::with_cases(300), |(text in "(\\[[a-z.]{0,12}\\]\n|[a-z_]{1,10} = (\"[^\"\n]{0,8}\"|[0-9.]{1,4}|\\[\\]|true)\n){0,8}")| {
        drop(parse(&text));
    });
}
