//! The plan for one request: who is asked first, under which gate, and who is asked otherwise.

use crate::{
    constraints::obstacle,
    gate::Gate,
    router::{Advice, Router},
};
use std::sync::Arc;
use understudy_core::{Capabilities, Certificate, Error, Mode, Request, Result, TaskSpec};

/// A small model that a task may use.
#[derive(Debug, Clone, Copy)]
pub struct Small<'a> {
    /// What it can take.
    pub capabilities: &'a Capabilities,
    /// The valid certificate for exactly this model and task, if there is one.
    pub certificate: Option<&'a Arc<Certificate>>,
}

/// The large model of a task.
#[derive(Debug, Clone, Copy)]
pub struct Large<'a> {
    /// What it can take.
    pub capabilities: &'a Capabilities,
}

/// Why a request takes its way: a fixed vocabulary for traces, metrics and people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The client named a model, no task matched.
    Named,
    /// The task only observes.
    Observe,
    /// The task only shadows.
    Shadow,
    /// The task has no small model.
    NoSmallModel,
    /// The small model holds no valid certificate.
    NoCertificate,
    /// The task's input rule found no text in the messages.
    NoInput,
    /// The router advised against the small model.
    Router,
    /// Texts must stay on this machine.
    Privacy,
    /// The request is longer than the model's context.
    Context,
    /// The model does not take images, audio or files.
    Modality,
    /// The model does not take tools.
    Tools,
    /// The model gives only one choice.
    ManyChoices,
    /// The model does not speak the task's language.
    Language,
    /// The answer's confidence reaches the certified threshold.
    Confident,
    /// It does not.
    Unsure,
    /// The small model failed.
    SmallFailed,
}

impl Reason {
    /// The phrase in traces and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Named => "named",
            Self::Observe => "observe",
            Self::Shadow => "shadow",
            Self::NoSmallModel => "no_small_model",
            Self::NoCertificate => "no_certificate",
            Self::NoInput => "no_input",
            Self::Router => "router",
            Self::Privacy => "privacy",
            Self::Context => "context",
            Self::Modality => "modality",
            Self::Tools => "tools",
            Self::ManyChoices => "many_choices",
            Self::Language => "language",
            Self::Confident => "confident",
            Self::Unsure => "unsure",
            Self::SmallFailed => "small_failed",
        }
    }
}

/// Whether another model is asked after the reply, for evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shadowing {
    /// The small model runs too; its answer is recorded.
    Yes,
    /// Nothing runs after the reply.
    No,
}

/// Who is asked, in which order.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// The large model answers.
    Large {
        /// Whether the small model runs after the reply.
        shadow: Shadowing,
        /// Why.
        reason: Reason,
    },
    /// The small model is asked; what the gate lets through is kept, the rest goes on.
    SmallFirst {
        /// Decides which answers are kept.
        gate: Gate,
        /// Probability with which a kept answer is audited, in [0, 1]; 0 where no large model may be asked.
        audit_probability: f64,
        /// What stands in the way of the large model, if anything: then an unsure answer is an error.
        large_obstacle: Option<Reason>,
    },
}

/// Plans one request of a task. `small` and `large` are the models that are ready to be asked. The small model's
/// certificate is its gate; without one it answers nothing.
///
/// # Errors
/// `Unavailable` when no model may answer: the message names the constraint and the remedy.
pub fn plan(
    task: &TaskSpec,
    small: Option<Small<'_>>,
    large: Option<Large<'_>>,
    router: &dyn Router,
    request: &Request,
) -> Result<Plan> {
    let gate = small.and_then(|small| small.certificate).cloned().map(Gate::Certified);
    decide(task, small, large, router, gate, request)
}

/// Plans one request as [`plan`] would if `gate` stood in place of the certificate: for replay, which asks what a
/// threshold would have done before anything is certified. What serves calls [`plan`].
///
/// # Errors
/// As [`plan`].
pub fn rehearse(
    task: &TaskSpec,
    small: Small<'_>,
    large: Large<'_>,
    router: &dyn Router,
    gate: Gate,
    request: &Request,
) -> Result<Plan> {
    decide(task, Some(small), Some(large), router, Some(gate), request)
}

fn decide(
    task: &TaskSpec,
    small: Option<Small<'_>>,
    large: Option<Large<'_>>,
    router: &dyn Router,
    gate: Option<Gate>,
    request: &Request,
) -> Result<Plan> {
    let large_obstacle = match large {
        Some(large) => obstacle(large.capabilities, request, Some(task)),
        None => Some(Reason::Privacy),
    };
    // Everything that keeps the small model from answering leads to the same place: the large one, if it may be asked.
    let without_small = |shadow: Shadowing, reason: Reason| match large_obstacle {
        None => Ok(Plan::Large { shadow, reason }),
        Some(obstacle) => Err(nobody(task, reason, obstacle)),
    };
    if task.mode == Mode::Observe {
        return without_small(Shadowing::No, Reason::Observe);
    }
    let Some(small) = small else { return without_small(Shadowing::No, Reason::NoSmallModel) };
    if let Some(reason) = obstacle(small.capabilities, request, Some(task)) {
        return without_small(Shadowing::No, reason);
    }
    if !task.labels.is_empty() && request.input.is_none() {
        return without_small(Shadowing::No, Reason::NoInput);
    }
    if task.mode == Mode::Shadow {
        return without_small(Shadowing::Yes, Reason::Shadow);
    }
    let Some(gate) = gate else {
        return without_small(Shadowing::Yes, Reason::NoCertificate);
    };
    if router.advise(request) == Advice::GoLarge && large_obstacle.is_none() {
        return Ok(Plan::Large { shadow: Shadowing::No, reason: Reason::Router });
    }
    let audit_probability = if large_obstacle.is_none() { task.audit } else { 0.0 };
    Ok(Plan::SmallFirst { gate, audit_probability, large_obstacle })
}

fn nobody(task: &TaskSpec, small: Reason, large: Reason) -> Error {
    let why_small = match small {
        Reason::NoCertificate => {
            "its small model holds no valid certificate (run `understudy pilot certify`)".to_owned()
        }
        Reason::NoSmallModel => "it has no small model (run `understudy adapt finetune`)".to_owned(),
        Reason::Observe | Reason::Shadow => format!("its mode is {}", small.as_str()),
        other => format!("its small model cannot take the request ({})", other.as_str()),
    };
    let why_large = match large {
        Reason::Privacy => "its texts must stay on this machine".to_owned(),
        other => format!("its large model cannot take the request ({})", other.as_str()),
    };
    Error::unavailable(format!("answer task `{}`: {why_small}, and {why_large}", task.name))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::router::{AlwaysTry, UpToBytes};
    use understudy_core::{
        Confidence, LossKind, Message, Per, Place, Role, Timestamp, TraceId,
        task::{InputRule, MatchRule, OutputForm, Privacy},
    };

    pub(crate) fn task() -> TaskSpec {
        TaskSpec {
            name: "triage".into(),
            rule: MatchRule::default(),
            mode: Mode::Live,
            large: Some("gpt".into()),
            small: Some("mini".into()),
            labels: vec!["spam".into(), "ham".into()],
            input: InputRule::default(),
            output: OutputForm::Label,
            privacy: Privacy::Any,
            audit: 0.1,
            epsilon: 0.02,
            delta: 0.05,
            languages: vec![],
        }
    }

    pub(crate) fn request() -> Request {
        let text = "hello there".to_owned();
        let mut request = Request::new(
            TraceId::from_parts(0, 0),
            "auto:triage".into(),
            vec![Message { role: Role::User, text: text.clone() }],
        );
        request.input = Some(text);
        request
    }

    pub(crate) fn local() -> Capabilities {
        Capabilities::of_text(Place::Local)
    }

    pub(crate) fn remote() -> Capabilities {
        Capabilities { place: Place::Remote, multimodal: true, tools: true, many_choices: true, ..local() }
    }

    pub(crate) fn certificate(threshold: f64) -> Arc<Certificate> {
        Arc::new(
            Certificate {
                id: String::new(),
                task: "triage".into(),
                small: "mini".into(),
                small_hash: "h".into(),
                large: "gpt".into(),
                epsilon: 0.02,
                delta: 0.05,
                loss: LossKind::Disagreement,
                per: Per::Request,
                loss_sum: None,
                n: 1000,
                losses: 8,
                threshold: Confidence::new(threshold).expect("in range"),
                kept: 0.8,
                bound: 0.0144,
                data_hash: "d".into(),
                issued: Timestamp(0),
            }
            .sealed(),
        )
    }

    fn planned(task: &TaskSpec, certificate: Option<&Arc<Certificate>>, request: &Request) -> Result<Plan> {
        let (local, remote) = (local(), remote());
        let small = Some(Small { capabilities: &local, certificate });
        plan(task, small, Some(Large { capabilities: &remote }), &AlwaysTry, request)
    }

    #[test]
    fn without_a_certificate_the_small_model_only_shadows() {
        let plan = planned(&task(), None, &request()).expect("large may answer");
        assert_eq!(plan, Plan::Large { shadow: Shadowing::Yes, reason: Reason::NoCertificate });
    }

    #[test]
    fn modes_below_live_never_ask_the_small_model_first() {
        let certificate = certificate(0.9);
        for (mode, shadow) in [(Mode::Observe, Shadowing::No), (Mode::Shadow, Shadowing::Yes)] {
            let task = TaskSpec { mode, ..task() };
            let plan = planned(&task, Some(&certificate), &request()).expect("large may answer");
            assert!(matches!(plan, Plan::Large { shadow: s, .. } if s == shadow));
        }
    }

    #[test]
    fn a_local_only_task_asks_no_remote_model_not_even_for_an_audit() {
        let task = TaskSpec { privacy: Privacy::LocalOnly, ..task() };
        let error = planned(&task, None, &request()).expect_err("nobody may answer");
        assert!(error.to_string().contains("no valid certificate"), "{error}");
        let certificate = certificate(0.9);
        match planned(&task, Some(&certificate), &request()).expect("small may answer") {
            Plan::SmallFirst { audit_probability, large_obstacle, .. } => {
                assert_eq!((audit_probability, large_obstacle), (0.0, Some(Reason::Privacy)));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_classification_without_a_text_goes_to_the_large_model() {
        let mut request = request();
        request.input = None;
        let certificate = certificate(0.9);
        let plan = planned(&task(), Some(&certificate), &request).expect("large may answer");
        assert_eq!(plan, Plan::Large { shadow: Shadowing::No, reason: Reason::NoInput });
    }

    #[test]
    fn a_rehearsal_differs_from_the_plan_only_in_its_gate() {
        let (local, remote, certificate) = (local(), remote(), certificate(0.9));
        let (bare, large) = (Small { capabilities: &local, certificate: None }, Large { capabilities: &remote });
        let certified = Small { certificate: Some(&certificate), ..bare };
        for router in [&AlwaysTry as &dyn Router, &UpToBytes(5)] {
            let gate = Gate::Certified(certificate.clone());
            let rehearsed = rehearse(&task(), bare, large, router, gate, &request()).expect("plan");
            assert_eq!(rehearsed, plan(&task(), Some(certified), Some(large), router, &request()).expect("plan"));
        }
    }

    #[test]
    fn the_router_can_only_send_more_to_the_large_model() {
        let (local, remote, certificate) = (local(), remote(), certificate(0.9));
        let small = Some(Small { capabilities: &local, certificate: Some(&certificate) });
        let large = Some(Large { capabilities: &remote });
        let route = |router: &dyn Router| plan(&task(), small, large, router, &request()).expect("plan");
        assert!(matches!(route(&UpToBytes(5)), Plan::Large { reason: Reason::Router, .. }));
        assert!(matches!(route(&UpToBytes(500)), Plan::SmallFirst { .. }));
    }
}
