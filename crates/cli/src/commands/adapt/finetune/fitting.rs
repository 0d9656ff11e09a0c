//! Which options go with what is trained. One that would be ignored is refused: who gives it expects something of it.

use super::{FinetuneArgs, Method};
use crate::commands::adapt::rows::NONE;
use understudy_core::{Error, Result};

/// What comes out of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::commands::adapt) enum Learns {
    /// One label.
    Label,
    /// A list of labels.
    Labels,
    /// A number.
    Number,
    /// Spans of it.
    Spans,
    /// Another text.
    Text,
}

impl Learns {
    fn what(self) -> &'static str {
        match self {
            Self::Label => "labels",
            Self::Labels => "lists of labels",
            Self::Number => "numbers",
            Self::Spans => "spans",
            Self::Text => "a generative model",
        }
    }
}

/// An option that not all kinds of training take.
struct Choosy {
    flag: &'static str,
    given: fn(&FinetuneArgs) -> bool,
    takes: fn(Learns, Method) -> bool,
    /// What does, in words.
    is_for: &'static str,
}

const CHOOSY: [Choosy; 17] = [
    Choosy {
        flag: "soft",
        given: |args| args.soft.as_deref().is_some_and(|field| field != NONE),
        takes: |learns, method| learns == Learns::Label && method != Method::Fewshot,
        is_for: "one label a text, with --method head, words, lora or full",
    },
    Choosy {
        flag: "rationale",
        given: |args| args.rationale.is_some(),
        takes: |learns, method| {
            learns == Learns::Text || (learns == Learns::Label && matches!(method, Method::Lora | Method::Full))
        },
        is_for: "one label a text with --method lora or full, which train the model itself, and for generative models",
    },
    Choosy {
        flag: "answer",
        given: |args| args.answer.is_some(),
        takes: |learns, _| learns == Learns::Text,
        is_for: "generative models; an encoder learns --label",
    },
    Choosy {
        flag: "system",
        given: |args| args.system.is_some(),
        takes: |learns, _| learns == Learns::Text,
        is_for: "generative models",
    },
    Choosy {
        flag: "teacher",
        given: |args| args.teacher.is_some(),
        takes: |learns, _| learns == Learns::Label,
        is_for: "one label a text",
    },
    Choosy {
        flag: "test",
        given: |args| args.test.is_some(),
        takes: |learns, _| learns == Learns::Spans,
        is_for: "--task extract; the others are measured by `pilot run`",
    },
    Choosy {
        flag: "unlabelled",
        given: |args| args.unlabelled.is_some(),
        takes: |learns, method| learns == Learns::Label && method == Method::Fewshot,
        is_for: "--method fewshot",
    },
    Choosy {
        flag: "out-of-scope",
        given: |args| args.out_of_scope.is_some(),
        takes: |learns, _| learns == Learns::Label,
        is_for: "one label a text; of a list or of numbers, none may apply",
    },
    Choosy {
        flag: "windows",
        given: |args| args.windows > 1,
        takes: |learns, method| {
            matches!(learns, Learns::Label | Learns::Labels | Learns::Number) && method != Method::Words
        },
        is_for: "encoders that give labels or numbers",
    },
    Choosy { flag: "epochs", given: |args| args.epochs.is_some(), takes: in_steps, is_for: IN_STEPS },
    Choosy { flag: "rate", given: |args| args.rate.is_some(), takes: in_steps, is_for: IN_STEPS },
    Choosy { flag: "batch", given: |args| args.batch.is_some(), takes: in_steps, is_for: IN_STEPS },
    Choosy { flag: "minutes", given: |args| args.minutes.is_some(), takes: in_steps, is_for: IN_STEPS },
    Choosy {
        flag: "patience",
        given: |args| args.patience.is_some(),
        takes: |learns, method| {
            learns == Learns::Text || (learns != Learns::Spans && matches!(method, Method::Lora | Method::Full))
        },
        is_for: "--method lora or full on labels or numbers, and for generative models: the others hold nothing out to \
                 compare epochs by",
    },
    Choosy {
        flag: "dtype",
        given: |args| args.dtype.is_some(),
        takes: |learns, method| learns != Learns::Text && method != Method::Words,
        is_for: "encoders",
    },
    Choosy { flag: "device", given: |args| args.device.is_some(), takes: in_steps, is_for: IN_STEPS },
    Choosy {
        flag: "rank",
        given: |args| args.rank.is_some(),
        takes: |_, method| method == Method::Lora,
        is_for: "--method lora",
    },
];

const IN_STEPS: &str = "trainings in steps: --method lora, full and fewshot, spans, generative models; a head on a frozen \
                        encoder and words are solved for";

/// Trained step by step; what is convex is solved.
fn in_steps(learns: Learns, method: Method) -> bool {
    matches!(learns, Learns::Spans | Learns::Text) || matches!(method, Method::Lora | Method::Full | Method::Fewshot)
}

/// Checks the options that were given.
///
/// # Errors
/// `Invalid`, naming the first that would be ignored and what it is for.
pub(in crate::commands::adapt) fn check(args: &FinetuneArgs, learns: Learns) -> Result<()> {
    let method = match (learns, args.method) {
        (_, Some(method)) => method,
        (Learns::Spans, None) => Method::Full,
        (Learns::Text, None) => Method::Lora,
        (_, None) => Method::Head,
    };
    match CHOOSY.iter().find(|option| (option.given)(args) && !(option.takes)(learns, method)) {
        None => Ok(()),
        Some(Choosy { flag, is_for, .. }) => {
            let name = clap::ValueEnum::to_possible_value(&method)
                .map_or_else(String::new, |value| value.get_name().to_owned());
            Err(Error::invalid(format!("train on {} by {name}: --{flag} is for {is_for}", learns.what()))
                .with_param(*flag))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: FinetuneArgs,
    }

    #[test]
    fn an_option_that_would_be_ignored_is_refused_by_name() {
        use Learns::{Label, Labels, Number, Spans, Text};
        for (learns, line, refused) in [
            (Label, "", None),
            (Label, "--epochs 3", Some("epochs")),
            (Label, "--method words --minutes 3", Some("minutes")),
            (Label, "--device cpu", Some("device")),
            (Number, "--method lora --device cuda:1", None),
            (Label, "--method full --epochs 3 --rate 1e-4 --batch 8 --minutes 1 --patience 1", None),
            (Label, "--method fewshot --patience 1", Some("patience")),
            (Label, "--method words --dtype f32", Some("dtype")),
            (Label, "--dtype f32", None),
            (Number, "--method lora --patience 1", None),
            (Spans, "--patience 1", Some("patience")),
            (Text, "--patience 1", None),
            (Label, "--method full --rank 4", Some("rank")),
            (Label, "--method lora --rank 4", None),
            (Label, "--method words --windows 2", Some("windows")),
            (Label, "--windows 2 --out-of-scope none --soft shares", None),
            (Label, "--method fewshot --soft shares", Some("soft")),
            (Label, "--method fewshot --soft none --unlabelled f --epochs 2", None),
            (Label, "--unlabelled f", Some("unlabelled")),
            (Label, "--rationale why", Some("rationale")),
            (Label, "--method lora --rationale why", None),
            (Label, "--system s", Some("system")),
            (Label, "--test f", Some("test")),
            (Labels, "--out-of-scope none", Some("out-of-scope")),
            (Labels, "--method full --epochs 2 --windows 4", None),
            (Labels, "--teacher t", Some("teacher")),
            (Number, "--soft shares", Some("soft")),
            (Number, "--epochs 2", Some("epochs")),
            (Spans, "--epochs 2 --test f", None),
            (Spans, "--method head --rate 1e-3", None),
            (Spans, "--windows 2", Some("windows")),
            (Spans, "--rank 2", Some("rank")),
            (Text, "--rank 2 --answer a --system s --rationale why --epochs 1", None),
            (Text, "--out-of-scope none", Some("out-of-scope")),
            (Text, "--windows 2", Some("windows")),
        ] {
            let line = format!("finetune --data f --out d {line}");
            let Line { args } = Line::try_parse_from(line.split_whitespace()).expect("a command line");
            let told = check(&args, learns).err();
            assert_eq!(told.as_ref().and_then(|e| e.param()), refused, "{line}");
            if let (Some(told), Some(flag)) = (told, refused) {
                assert!(told.to_string().contains(&format!("--{flag} is for ")), "{told}");
            }
        }
    }
}
