//! Which task a request belongs to. The first rule that matches wins, in the order of the configuration.

use understudy_core::{Error, Request, Result, TaskSpec, task::MatchRule};

/// The model name by which a client lets Understudy choose.
pub const AUTO: &str = "auto";

/// What a request is aimed at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target<'t> {
    /// A task, by its name or by rule: the task's position in the configuration.
    Task(&'t TaskSpec),
    /// The model that the client named; no rule matched.
    Model,
    /// The client said `auto` and no rule matched: the default large model.
    Default,
}

/// Finds what a request is aimed at.
///
/// # Errors
/// `NotFound` when the client names a task (`auto:<task>`) that does not exist.
pub fn target<'t>(tasks: impl IntoIterator<Item = &'t TaskSpec>, request: &Request) -> Result<Target<'t>> {
    let asked = request.model.as_str();
    let mut tasks = tasks.into_iter();
    if let Some(name) = asked.strip_prefix(AUTO).and_then(|rest| rest.strip_prefix(':')) {
        return tasks.find(|task| task.name.as_str() == name).map(Target::Task).ok_or_else(|| {
            Error::not_found(format!("find task `{name}`: no [task.{name}] is configured")).with_param("model")
        });
    }
    let by_rule = tasks.find(|task| matches(&task.rule, request));
    Ok(match by_rule {
        Some(task) => Target::Task(task),
        None if asked == AUTO => Target::Default,
        None => Target::Model,
    })
}

/// Whether every condition of the rule holds. A rule without conditions matches nothing.
fn matches(rule: &MatchRule, request: &Request) -> bool {
    let empty = MatchRule::default();
    *rule != empty
        && (rule.models.is_empty() || rule.models.iter().any(|model| model == request.model.as_str()))
        && rule.system_contains.as_ref().is_none_or(|text| request.system_text().contains(text.as_str()))
        && rule.headers.iter().all(|(name, value)| request.headers.get(name) == Some(value))
        && rule.metadata.iter().all(|(key, value)| request.metadata.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::{request, task};
    use understudy_core::{Message, ModelName, Role};

    #[test]
    fn the_first_rule_whose_conditions_all_hold_wins() {
        let mut mail = task();
        mail.rule.system_contains = Some("triage".into());
        let mut other = task();
        other.name = "other".into();
        other.rule.models = vec!["gpt-4o".into()];
        let tasks = [mail, other];

        let mut asked = request();
        asked.model = ModelName::from("gpt-4o");
        asked.messages.insert(0, Message { role: Role::System, text: "You triage mail.".into() });
        assert_eq!(target(&tasks, &asked).expect("found"), Target::Task(&tasks[0]));
        asked.messages.remove(0);
        assert_eq!(target(&tasks, &asked).expect("found"), Target::Task(&tasks[1]));
        asked.model = ModelName::from("gpt-5");
        assert_eq!(target(&tasks, &asked).expect("found"), Target::Model);
        asked.model = ModelName::from("auto");
        assert_eq!(target(&tasks, &asked).expect("found"), Target::Default);
    }

    #[test]
    fn a_task_can_be_named_and_an_unknown_one_is_an_error() {
        let tasks = [task()];
        let mut asked = request();
        asked.model = ModelName::from("auto:triage");
        assert_eq!(target(&tasks, &asked).expect("named"), Target::Task(&tasks[0]));
        asked.model = ModelName::from("auto:nope");
        assert!(target(&tasks, &asked).expect_err("unknown").to_string().contains("[task.nope]"));
    }

    #[test]
    fn a_rule_without_conditions_matches_nothing() {
        let mut asked = request();
        asked.model = ModelName::from("gpt-4o");
        assert_eq!(target(&[task()], &asked).expect("no error"), Target::Model);
    }
}
