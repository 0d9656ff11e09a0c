//! The cascade as a state machine: it is told what happened and says what to do next.

use crate::plan::{Plan, Reason, Shadowing};
use std::sync::Arc;
use understudy_core::{Answer, Certificate, Error, ErrorKind, error::Escalation};

/// Which of a task's two models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// The small one.
    Small,
    /// The large one.
    Large,
}

/// What to do next.
#[derive(Debug, Clone)]
pub enum Step {
    /// Ask this model and report with [`Cascade::on`].
    Ask(Tier),
    /// Hand over the answer of this model (the last one reported), then ask `after`, for evidence only.
    Reply {
        /// Whose answer.
        from: Tier,
        /// Asked when the client has its answer: an audit of a kept one, or a shadow.
        after: Option<Tier>,
    },
    /// Hand over this error.
    Fail(Error),
}

/// What was decided, for the trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Why the request took its way.
    pub reason: Reason,
    /// Certificate in force when the small model was asked.
    pub certificate: Option<Arc<Certificate>>,
    /// Probability of an audit, for a kept answer.
    pub audit_probability: Option<f64>,
    /// Whether it is audited.
    pub audited: bool,
}

/// One request's way through its models.
#[derive(Debug, Clone)]
pub struct Cascade {
    plan: Plan,
    asked: Tier,
    audit_draw: f64,
    decision: Decision,
}

impl Cascade {
    /// Starts on a plan. `audit_draw` is uniform in [0, 1), drawn independently of everything about the request; the
    /// audit's evidence rests on that.
    #[must_use]
    pub fn start(plan: Plan, audit_draw: f64) -> (Self, Step) {
        let (asked, reason, certificate) = match &plan {
            Plan::Large { reason, .. } => (Tier::Large, *reason, None),
            Plan::SmallFirst { gate, .. } => (Tier::Small, Reason::Unsure, gate.certificate().cloned()),
        };
        let decision = Decision { reason, certificate, audit_probability: None, audited: false };
        (Self { plan, asked, audit_draw, decision }, Step::Ask(asked))
    }

    /// Takes what the model that was asked last has answered.
    pub fn on(&mut self, outcome: Result<&Answer, &Error>) -> Step {
        match (&self.plan, self.asked) {
            (Plan::Large { shadow, .. }, _) => match outcome {
                Ok(_) => {
                    let after = (*shadow == Shadowing::Yes).then_some(Tier::Small);
                    Step::Reply { from: Tier::Large, after }
                }
                Err(error) => Step::Fail(error.clone()),
            },
            (Plan::SmallFirst { .. }, Tier::Large) => match outcome {
                Ok(_) => Step::Reply { from: Tier::Large, after: None },
                Err(error) => Step::Fail(error.clone()),
            },
            (Plan::SmallFirst { gate, audit_probability, large_obstacle }, Tier::Small) => {
                let (probability, obstacle) = (*audit_probability, *large_obstacle);
                match outcome {
                    Ok(answer) if gate.keeps(answer) => self.keep(probability),
                    Ok(_) => self.escalate(Reason::Unsure, obstacle, || {
                        Error::unavailable(
                            "answer locally: the small model is below its certified confidence, and no other model may \
                             be asked for this task",
                        )
                    }),
                    // What the small model cannot take (its context is too short for it, it has no such grammar) another
                    // one may.
                    Err(error)
                        if error.kind().escalation() == Escalation::Allowed || error.kind() == ErrorKind::Invalid =>
                    {
                        self.escalate(Reason::SmallFailed, obstacle, || error.clone())
                    }
                    Err(error) => Step::Fail(error.clone()),
                }
            }
        }
    }

    /// The decision so far.
    #[must_use]
    pub fn decision(&self) -> &Decision {
        &self.decision
    }

    fn keep(&mut self, audit_probability: f64) -> Step {
        let audited = self.audit_draw < audit_probability;
        self.decision.reason = Reason::Confident;
        self.decision.audit_probability = Some(audit_probability);
        self.decision.audited = audited;
        Step::Reply { from: Tier::Small, after: audited.then_some(Tier::Large) }
    }

    fn escalate(&mut self, reason: Reason, obstacle: Option<Reason>, otherwise: impl FnOnce() -> Error) -> Step {
        self.decision.reason = reason;
        if obstacle.is_some() {
            return Step::Fail(otherwise());
        }
        self.asked = Tier::Large;
        Step::Ask(Tier::Large)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::Gate;
    use crate::plan::tests::certificate;
    use understudy_core::{Confidence, Usage};

    fn answer(confidence: f64) -> Answer {
        let mut answer = Answer::text("mini".into(), "spam", Usage::default());
        answer.confidence = Some(Confidence::new(confidence).expect("in range"));
        answer
    }

    fn small_first(large_obstacle: Option<Reason>) -> Plan {
        Plan::SmallFirst { gate: Gate::Certified(certificate(0.9)), audit_probability: 0.1, large_obstacle }
    }

    #[test]
    fn keeps_at_the_threshold_and_escalates_below() {
        let (mut cascade, step) = Cascade::start(small_first(None), 0.5);
        assert!(matches!(step, Step::Ask(Tier::Small)));
        assert!(matches!(cascade.on(Ok(&answer(0.9))), Step::Reply { from: Tier::Small, after: None }));
        assert_eq!(cascade.decision().reason, Reason::Confident);

        let (mut cascade, _) = Cascade::start(small_first(None), 0.5);
        assert!(matches!(cascade.on(Ok(&answer(0.899_999))), Step::Ask(Tier::Large)));
        assert!(matches!(cascade.on(Ok(&answer(0.0))), Step::Reply { from: Tier::Large, after: None }));
        assert_eq!(cascade.decision().reason, Reason::Unsure);
        assert_eq!(cascade.decision().audit_probability, None);
    }

    #[test]
    fn audits_a_kept_answer_exactly_when_the_draw_says_so() {
        for (draw, audited) in [(0.0999, true), (0.1, false)] {
            let (mut cascade, _) = Cascade::start(small_first(None), draw);
            let step = cascade.on(Ok(&answer(0.95)));
            assert!(matches!(step, Step::Reply { from: Tier::Small, after } if after.is_some() == audited));
            assert_eq!(cascade.decision().audited, audited);
            assert_eq!(cascade.decision().audit_probability, Some(0.1));
        }
    }

    #[test]
    fn an_answer_without_confidence_is_never_kept() {
        let (mut cascade, _) = Cascade::start(small_first(None), 0.5);
        let mut bare = answer(1.0);
        bare.confidence = None;
        assert!(matches!(cascade.on(Ok(&bare)), Step::Ask(Tier::Large)));
    }

    #[test]
    fn a_failing_small_model_escalates_unless_every_model_would_fail() {
        let (mut cascade, _) = Cascade::start(small_first(None), 0.5);
        assert!(matches!(cascade.on(Err(&Error::internal("run"))), Step::Ask(Tier::Large)));
        assert_eq!(cascade.decision().reason, Reason::SmallFailed);
        let (mut cascade, _) = Cascade::start(small_first(None), 0.5);
        assert!(matches!(cascade.on(Err(&Error::invalid("fit the context"))), Step::Ask(Tier::Large)));
        assert!(matches!(cascade.on(Err(&Error::invalid("read"))), Step::Fail(_)), "the large model refuses it too");
        let (mut cascade, _) = Cascade::start(small_first(Some(Reason::Privacy)), 0.5);
        assert!(matches!(cascade.on(Err(&Error::invalid("fit the context"))), Step::Fail(_)));
        let (mut cascade, _) = Cascade::start(small_first(None), 0.5);
        assert!(matches!(cascade.on(Err(&Error::new(ErrorKind::Cancelled, "wait"))), Step::Fail(_)));
    }

    #[test]
    fn where_no_large_model_may_be_asked_an_unsure_answer_is_an_error() {
        let (mut cascade, _) = Cascade::start(small_first(Some(Reason::Privacy)), 0.5);
        assert!(matches!(cascade.on(Ok(&answer(0.1))), Step::Fail(_)));
    }

    #[test]
    fn shadowing_asks_the_small_model_after_the_reply() {
        let plan = Plan::Large { shadow: Shadowing::Yes, reason: Reason::Shadow };
        let (mut cascade, step) = Cascade::start(plan, 0.0);
        assert!(matches!(step, Step::Ask(Tier::Large)));
        let step = cascade.on(Ok(&answer(0.2)));
        assert!(matches!(step, Step::Reply { from: Tier::Large, after: Some(Tier::Small) }));
        assert!(!cascade.decision().audited);
    }
}
