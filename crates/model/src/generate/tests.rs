//! The generator on a real model, SmolLM2-135M-Instruct; skipped where it is not installed.

use super::*;
use futures_util::future::join_all;
use std::path::PathBuf;
use understudy_core::{FinishReason, Role, TraceId};

/// The model file at Q8_0, from the folder where `understudy pull smollm2` puts it.
fn model_file() -> Option<PathBuf> {
    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    FILE.get_or_init(|| {
        #[expect(clippy::disallowed_methods, reason = "tests find installed models as the command line does")]
        let folder = std::env::var("UNDERSTUDY_MODELS")
            .map(PathBuf::from)
            .or_else(|_| std::env::var("HOME").map(|home| PathBuf::from(home).join(".understudy/models")));
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder.ok()?.join("smollm2"))
            .ok()?
            .filter_map(|entry| entry.ok().map(|e| e.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "gguf"))
            .filter(|path| !path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')))
            .collect();
        files.sort();
        let q8 = files.iter().find(|f| file_type(f).ok().flatten() == Some(FileType::Q8_0)).cloned();
        Some(q8.unwrap_or_else(|| import_gguf(&files[0]).expect("a complete model").path))
    })
    .clone()
}

/// Loads the model, or says that the test was skipped.
fn load(change: impl FnOnce(&mut GeneratorOptions)) -> Option<Generator> {
    let Some(path) = model_file() else {
        println!("skipped: no model; `understudy pull smollm2` installs it");
        return None;
    };
    let mut options = GeneratorOptions::new("smollm2".into());
    // One thread waits for no other: the tests stay quick on a busy machine.
    options.threads = 1;
    options.context_tokens = 1_024;
    // Below 64 tokens a batch, llama.cpp computes every row alike whatever the batch: answers can be compared exactly.
    options.max_batch = 48;
    change(&mut options);
    Some(Generator::load(&path, options).expect("the model loads"))
}

fn request(text: &str, max_tokens: u32) -> Request {
    let message = Message { role: Role::User, text: text.to_owned() };
    let mut request = Request::new(TraceId::from_parts(1, 1), "smollm2".into(), vec![message]);
    request.sampling.max_tokens = Some(max_tokens);
    request
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

const QUESTIONS: [&str; 4] = [
    "What is the capital of France?",
    "Name three colours.",
    "Write one sentence about the sea.",
    "What is two plus two?",
];

#[test]
fn concurrent_answers_equal_sequential_ones() {
    let Some(generator) = load(|o| o.prefix_reuse = PrefixReuse::Off) else { return };
    let requests: Vec<Request> = QUESTIONS.iter().map(|q| request(q, 24)).collect();
    run(async {
        let mut alone = Vec::new();
        for r in &requests {
            alone.push(generator.answer(r).await.expect("an answer"));
        }
        let together = join_all(requests.iter().map(|r| generator.answer(r))).await;
        for (a, b) in alone.iter().zip(together) {
            let b = b.expect("an answer");
            assert_eq!((&a.text, &a.finish, a.usage), (&b.text, &b.finish, b.usage));
        }
        assert!(alone.iter().all(|a| a.text.len() > 10 && a.usage.output_tokens > 4));
        assert_eq!(alone[0].model.as_str(), "smollm2");
        assert_eq!(alone[0].confidence, None);
    });
}

#[test]
fn the_streamed_pieces_are_the_whole_answer() {
    let Some(generator) = load(|_| ()) else { return };
    let request = request("Write a short story with an emoji 🦀 in it.", 40);
    run(async {
        let whole = generator.answer(&request).await.expect("an answer");
        let mut stream = generator.stream(&request).await.expect("a stream");
        let (mut text, mut pieces, mut end) = (String::new(), 0, None);
        while let Some(event) = stream.next().await {
            match event.expect("no error") {
                Event::Delta { text: piece, .. } => {
                    text.push_str(&piece);
                    pieces += 1;
                }
                Event::End(answer) => end = Some(answer),
            }
        }
        let end = end.expect("the stream ends with the answer");
        assert_eq!(text, end.text);
        assert_eq!(text, whole.text);
        assert!(pieces > 5, "{pieces} pieces");
        assert_eq!(end.usage.output_tokens, whole.usage.output_tokens);
    });
}

#[test]
fn a_stop_sequence_ends_the_answer_and_is_not_part_of_it() {
    let Some(generator) = load(|_| ()) else { return };
    let mut with_stop = request(QUESTIONS[0], 24);
    run(async {
        let free = generator.answer(&with_stop).await.expect("an answer").text;
        // Seven characters from the middle of the answer.
        let stop: String = free.chars().skip(free.chars().count() / 2).take(7).collect();
        with_stop.sampling.stop = vec!["not in it".to_owned(), stop.clone()];
        with_stop.sampling.logprobs = Some(0);
        let cut = generator.answer(&with_stop).await.expect("an answer");
        assert_eq!(cut.finish, FinishReason::Stop);
        assert_eq!(cut.text, free[..free.find(&stop).expect("it is from there")]);
        let bytes: Vec<u8> = cut.logprobs.expect("asked for").into_iter().flat_map(|t| t.bytes).collect();
        assert!(bytes.starts_with(cut.text.as_bytes()));
    });
}

fn compile(generator: &Generator, grammar: String) -> Result<Option<Constraint>> {
    Constraint::compile(&generator.prepare.model, &generator.prepare.forbidden, &OutputFormat::Grammar(grammar))
}

#[test]
fn grammars_are_read_as_llama_cpp_reads_them() {
    let Some(generator) = load(|_| ()) else { return };
    let parts = [
        "\"x\"",
        "\"\"",
        "[a-z]",
        "[^x]",
        "[]",
        ".",
        "a",
        "b",
        "root",
        "(",
        ")",
        "|",
        "*",
        "+",
        "?",
        "{2}",
        "{0,3}",
        "{1,}",
        "{4}",
        " ",
        "\n",
        "\na ::=",
        "\nb ::= ",
        "# c\r",
        "<[3]>",
        "!<[4]>",
        "\"\\x41\"",
        "\"\\q\"",
    ];
    let (mut taken, mut refused, mut state) = (0, 0, 7u64);
    for _ in 0..600 {
        let mut grammar = "b ::= \"z\"\na ::= b \"y\"?\nroot ::= ".to_owned();
        for _ in 0..9 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            grammar += parts[usize::try_from(state >> 33).expect("31 bits") % parts.len()];
            grammar += " ";
        }
        let Err(error) = compile(&generator, grammar.clone()) else {
            taken += 1;
            continue;
        };
        if error.message().contains("llama.cpp refuses") {
            // What it can hold against a grammar that is fine here is a rule that returns at its end after what may be
            // empty, as repetitions do.
            assert!(grammar.contains(['*', '+', '?', '{']), "{grammar}");
        } else if !error.message().contains("left-recursive") {
            refused += 1;
            let read = llama_cpp_2::sampling::LlamaSampler::grammar(&generator.prepare.model, &grammar, "root");
            assert!(read.is_err(), "{error}: {grammar}");
        }
    }
    println!("{taken} taken, {refused} refused");
    assert!(taken > 10 && refused > 100);
}

#[test]
fn grammars_at_the_limits_neither_hang_nor_crash() {
    let Some(generator) = load(|_| ()) else { return };
    let rules = |n: usize, rule: &dyn Fn(usize) -> String| {
        let rules: Vec<_> = (0..n).map(|i| format!("r{i} ::= {}", rule(i + 1))).collect();
        format!("root ::= r0\n{}\nr{n} ::= \"x\"", rules.join("\n"))
    };
    let labels: Vec<_> = (0..15_000).map(|i| format!("\"label {i}\"")).collect();
    for grammar in [
        rules(1_480, &|next| format!("((r{next}))")),
        rules(1_480, &|next| format!("((r{next})) \"y\"")),
        rules(1_900, &|next| format!("r{next} | \"y\"")),
        rules(12, &|next| format!("r{next} \"x\" | r{next} \"y\"")),
        "root ::= (\"a\"? \"b\"?){0,600}".to_owned(),
        format!("root ::= {}", "[a-z]{0,2000} ".repeat(90)),
        format!("root ::= {}", labels.join(" | ")),
    ] {
        #[expect(clippy::disallowed_methods, reason = "printed for the reader only")]
        let start = std::time::Instant::now();
        let compiled = compile(&generator, grammar.clone());
        println!("{:?} for {}", start.elapsed(), &grammar[..24]);
        compiled.unwrap_or_else(|error| panic!("{error}: {}", &grammar[..24]));
    }
}

#[test]
fn a_grammar_that_reads_an_answer_in_ever_more_ways_ends_it_with_an_error() {
    let Some(generator) = load(|_| ()) else { return };
    // Each x doubles the ways: what comes after all of them decides which of them was meant.
    let grammar = "root ::= a\na ::= \"x\" a \"1\" | \"x\" a \"2\" | \"x\"".to_owned();
    let mut constraint = compile(&generator, grammar).expect("valid").expect("a grammar");
    let x = generator.prepare.model.vocab().tokenize(b"x", false, false)[0].0;
    let x = usize::try_from(x).expect("a token");
    let (n, error) = (1..40).find_map(|n| constraint.accept(x).err().map(|e| (n, e))).expect("it ends");
    println!("ended by token {n}: {error}");
    assert_eq!((error.kind(), error.param()), (understudy_core::ErrorKind::Invalid, Some("grammar")));
}

#[test]
fn a_client_that_leaves_while_its_grammar_compiles_keeps_its_place_until_that_ends() {
    let Some(generator) = load(|_| ()) else { return };
    let mut slow = request("Hi", 4);
    let labels: Vec<_> = (0..15_000).map(|i| format!("\"label {i}\"")).collect();
    slow.format = OutputFormat::Grammar(format!("root ::= {}", labels.join(" | ")));
    run(async {
        let places = generator.queue.available_permits();
        let mut answer = generator.answer(&slow);
        assert!(futures_util::poll!(&mut answer).is_pending());
        drop(answer);
        assert_eq!(generator.queue.available_permits(), places - 1);
        while generator.queue.available_permits() < places {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn output_follows_a_json_schema() {
    let Some(generator) = load(|o| o.prefix_reuse = PrefixReuse::Off) else { return };
    let mut request = request("Classify this mail as JSON: \"WIN A PRIZE NOW, click here!!!\"", 60);
    request.format = OutputFormat::JsonSchema(serde_json::json!({
        "type": "object",
        "properties": {
            "label": {"enum": ["spam", "ham"]},
            "urgent": {"type": "boolean"},
            "score": {"type": "integer", "minimum": 0, "maximum": 9}
        },
        "required": ["label", "urgent", "score"],
        "additionalProperties": false
    }));
    run(async {
        for (temperature, seed) in [(0.0, 0), (1.0, 1), (2.0, 2), (2.0, 3)] {
            request.sampling.temperature = Some(temperature);
            request.sampling.seed = Some(seed);
            let answer = generator.answer(&request).await.expect("an answer");
            let value: serde_json::Value = serde_json::from_str(&answer.text).expect("JSON");
            assert!(matches!(value["label"].as_str(), Some("spam" | "ham")), "{}", answer.text);
            assert!(value["urgent"].is_boolean());
            assert!(value["score"].as_u64().is_some_and(|n| n <= 9));
            assert_eq!(value.as_object().expect("an object").len(), 3);
            assert_eq!(answer.finish, FinishReason::Stop);
        }
        request.format = OutputFormat::Grammar("root ::= (\"yes\" | \"no\") \"!\"".to_owned());
        let answer = generator.answer(&request).await.expect("an answer");
        assert!(matches!(answer.text.as_str(), "yes!" | "no!"), "{}", answer.text);
        request.format = OutputFormat::JsonObject;
        request.sampling.temperature = Some(0.0);
        let answer = generator.answer(&request).await.expect("an answer");
        assert!(answer.text.starts_with('{'), "{}", answer.text);
    });
}

#[test]
fn a_broken_grammar_is_the_callers_mistake_and_the_model_lives_on() {
    let Some(generator) = load(|_| ()) else { return };
    let broken = [
        "root ::= ",
        "root ::= (\"a\"",
        "root ::= undefined",
        "root ::= root \"a\"",
        "other ::= \"a\"",
        "root := \"a\"",
        "root ::= [a",
        "root ::= \"a\"{3,1}",
        "root ::= \"a\"{99999999}",
        "root ::= <[999999999]>",
        "root ::= \"\\xZZ\"",
        "\u{0}",
        "",
    ];
    run(async {
        for grammar in broken {
            let mut r = request(QUESTIONS[1], 8);
            r.format = OutputFormat::Grammar(grammar.to_owned());
            match generator.answer(&r).await {
                Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid, "{grammar:?}: {error}"),
                // llama.cpp takes an empty rule as the empty text.
                Ok(answer) => assert_eq!((grammar, answer.text.as_str()), ("root ::= ", "")),
            }
        }
        let mut r = request(QUESTIONS[1], 8);
        r.format = OutputFormat::JsonSchema(serde_json::json!({"type": "nonsense"}));
        assert_eq!(generator.answer(&r).await.expect_err("invalid").kind(), ErrorKind::Invalid);
        // A grammar whose only text no token begins: an error, not an abort.
        r.format = OutputFormat::Grammar("root ::= [\\x01] [\\x02]".to_owned());
        let _ = generator.answer(&r).await;
        generator.answer(&request(QUESTIONS[1], 8)).await.expect("the engine still runs");
    });
}

#[test]
fn a_dropped_request_frees_its_place() {
    let Some(generator) = load(|o| {
        o.max_sequences = 1;
        o.max_waiting = 1;
        o.context_tokens = 2_048;
    }) else {
        return;
    };
    let long = request("Tell me everything about the sea, at length.", 1_800);
    let short = request(QUESTIONS[0], 8);
    run(async {
        let mut stream = generator.stream(&long).await.expect("a stream");
        assert!(stream.next().await.expect("an event").is_ok());
        // One runs, one waits, the third is refused.
        let waiting = generator.stream(&short).await.expect("room to wait");
        assert_eq!(generator.answer(&short).await.expect_err("full").kind(), ErrorKind::Overloaded);
        drop(stream);
        drop(waiting);
        // The long answer would take 1,800 steps; were it not cancelled, this would be refused for ever.
        loop {
            match generator.answer(&short).await {
                Ok(answer) => break assert!(!answer.text.is_empty()),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Overloaded),
            }
            tokio::task::yield_now().await;
        }
        // The engine lets go of an answer just after it is sent.
        while generator.queue.available_permits() < 2 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_reused_prefix_gives_the_cold_answer() {
    let cold = load(|o| o.prefix_reuse = PrefixReuse::Off);
    let Some((warm, cold)) = load(|_| ()).zip(cold) else { return };
    let system = "You answer questions about a town with one station, two bridges and a market on Saturdays.";
    let ask = |question: &str| {
        let mut r = request(question, 20);
        r.messages.insert(0, Message { role: Role::System, text: system.repeat(4) });
        r.sampling.logprobs = Some(3);
        r
    };
    run(async {
        for question in ["When is the market?", "How many bridges are there?", "When is the market?"] {
            let (a, b) = (warm.answer(&ask(question)).await, cold.answer(&ask(question)).await);
            let (a, b) = (a.expect("an answer"), b.expect("an answer"));
            assert_eq!(a.text, b.text);
            let largest = a
                .logprobs
                .iter()
                .flatten()
                .zip(b.logprobs.iter().flatten())
                .map(|(x, y)| (x.logprob - y.logprob).abs())
                .fold(0.0, f32::max);
            println!(
                "{} of {} tokens reused, largest difference of ln p {largest}",
                a.usage.cached_input_tokens, a.usage.input_tokens
            );
            // 0 on x86-64; room for kernels that take rows together.
            assert!(largest < 0.02, "{largest}");
            assert_eq!(b.usage.cached_input_tokens, 0);
        }
        let again = warm.answer(&ask("When is the market?")).await.expect("an answer");
        assert_eq!(again.usage.cached_input_tokens, again.usage.input_tokens - 1);
    });
}

#[test]
fn a_prefix_copied_from_a_running_answer_gives_the_cold_answer() {
    let cold = load(|o| o.prefix_reuse = PrefixReuse::Off);
    let Some((warm, cold)) = load(|_| ()).zip(cold) else { return };
    let ask = |question: &str, tokens| {
        let mut r = request(question, tokens);
        let system = "You answer questions about a town with one station, two bridges and a market on Saturdays.";
        r.messages.insert(0, Message { role: Role::System, text: system.repeat(4) });
        r.sampling.logprobs = Some(0);
        r
    };
    run(async {
        let long = ask("Write a long story about the town.", 200);
        let mut story = warm.stream(&long).await.expect("a stream");
        let mut told = String::new();
        while told.is_empty() {
            if let Event::Delta { text, .. } = story.next().await.expect("an event").expect("no error") {
                told.push_str(&text);
            }
        }
        let requests = ["When is the market?", "How many bridges are there?"].map(|q| ask(q, 20));
        for (r, a) in requests.iter().zip(join_all(requests.iter().map(|r| warm.answer(r))).await) {
            let (a, b) = (a.expect("an answer"), cold.answer(r).await.expect("an answer"));
            assert!(a.usage.cached_input_tokens > 64, "{:?}", a.usage);
            assert_eq!((a.text, a.logprobs), (b.text, b.logprobs));
        }
        // The lender is unharmed.
        while let Some(event) = story.next().await {
            if let Event::End(answer) = event.expect("no error") {
                assert_eq!(answer.text, cold.answer(&long).await.expect("an answer").text);
            }
        }
    });
}

#[test]
fn log_probabilities_are_a_distribution_and_greedy_takes_its_mode() {
    let Some(generator) = load(|_| ()) else { return };
    let mut r = request(QUESTIONS[2], 16);
    r.sampling.logprobs = Some(5);
    run(async {
        let answer = generator.answer(&r).await.expect("an answer");
        let tokens = answer.logprobs.expect("asked for");
        assert_eq!(tokens.len(), 16);
        let bytes: Vec<u8> = tokens.iter().flat_map(|t| t.bytes.clone()).collect();
        assert_eq!(bytes, answer.text.as_bytes());
        for token in &tokens {
            assert_eq!(token.top.len(), 5);
            assert!((token.top[0].1 - token.logprob).abs() < f32::EPSILON, "greedy takes the likeliest");
            assert!(token.top.is_sorted_by(|a, b| a.1 >= b.1));
            let sum: f64 = token.top.iter().map(|t| f64::from(t.1).exp()).sum();
            assert!(sum <= 1.0 + 1e-6, "{sum}");
        }
        r.sampling.logprobs = None;
        assert_eq!(generator.answer(&r).await.expect("an answer").logprobs, None);
    });
}

#[test]
fn one_seed_gives_one_text() {
    let Some(generator) = load(|o| o.prefix_reuse = PrefixReuse::Off) else { return };
    let mut r = request(QUESTIONS[2], 24);
    r.sampling.temperature = Some(1.0);
    r.sampling.top_p = Some(0.95);
    run(async {
        let mut texts = Vec::new();
        for seed in [1, 1, 2] {
            r.sampling.seed = Some(seed);
            texts.push(generator.answer(&r).await.expect("an answer").text);
        }
        assert_eq!(texts[0], texts[1]);
        assert_ne!(texts[0], texts[2]);
    });
}

#[test]
fn a_prompt_that_does_not_fit_is_refused_with_the_numbers() {
    let Some(generator) = load(|o| o.context_tokens = 256) else { return };
    run(async {
        let error = generator.answer(&request(&"word ".repeat(400), 8)).await.expect_err("too long");
        assert_eq!((error.kind(), error.param()), (ErrorKind::Invalid, Some("messages")));
        assert!(error.message().contains("tokens") && error.message().ends_with("the model takes 256"), "{error}");
        let error = generator.answer(&request("hi", 300)).await.expect_err("too long");
        assert_eq!(error.param(), Some("max_tokens"));
        let mut unlimited = request("Count to one thousand.", 1);
        unlimited.sampling.max_tokens = None;
        let answer = generator.answer(&unlimited).await.expect("an answer");
        assert!(answer.usage.input_tokens + answer.usage.output_tokens <= 256);
    });
}

#[test]
fn more_answers_than_places_take_turns_and_a_long_prompt_is_read_in_chunks() {
    let Some(generator) = load(|o| {
        o.max_sequences = 3;
        o.context_tokens = 256;
        o.max_batch = 32;
    }) else {
        return;
    };
    let requests: Vec<Request> =
        (0..12).map(|i| request(&format!("Number {i}: {}", "tell me about rivers. ".repeat(12)), 16)).collect();
    run(async {
        for answer in join_all(requests.iter().map(|r| generator.answer(r))).await {
            let answer = answer.expect("an answer");
            assert!(answer.usage.input_tokens > 64 && answer.usage.output_tokens > 0);
        }
    });
}

#[test]
fn the_prompt_is_the_models_own_template() {
    let Some(generator) = load(|_| ()) else { return };
    let prepare = &generator.prepare;
    let messages = request("Hi", 1).messages;
    // Checked against transformers' apply_chat_template for HuggingFaceTB/SmolLM2-135M-Instruct.
    let want = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
                <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(prepare.template.render(&prepare.model, &messages).expect("valid"), want);
    let tokens = prompt::tokenise(&prepare.model, want);
    assert_eq!(tokens[..2].iter().map(|t| t.0).collect::<Vec<_>>(), [1, 9690]);
    assert_eq!(generator.count_tokens(&messages).expect("valid"), tokens.len());
}

#[test]
fn a_template_that_refuses_messages_is_not_replaced_and_one_that_does_not_run_is() {
    let Some(generator) = load(|_| ()) else { return };
    let model = &generator.prepare.model;
    let turn = |role| Message { role, text: "Hi".to_owned() };
    let strict = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system message') }}\
                  {% endif %}<|im_start|>{{ m.content }}{% endfor %}";
    let strict = ChatTemplate::of(model, Some(strict)).expect("it runs");
    assert_eq!(strict.render(model, &[turn(Role::User)]).expect("taken"), "<|im_start|>Hi");
    let error = strict.render(model, &[turn(Role::System), turn(Role::User)]).expect_err("refused");
    assert_eq!((error.kind(), error.param()), (ErrorKind::Invalid, Some("messages")));
    assert!(error.message().contains("no system message"), "{error}");
    let broken = ChatTemplate::of(model, Some("{{ of_python() }}<|im_start|>")).expect("llama.cpp knows its family");
    assert!(broken.render(model, &[turn(Role::User)]).expect("taken").contains("<|im_start|>user\nHi<|im_end|>"));
    assert_eq!(ChatTemplate::of(model, Some("{{ of_python() }}")).expect_err("neither").kind(), ErrorKind::Data);
}

#[test]
fn unfinished_answers_end_when_the_model_is_unloaded() {
    let Some(generator) = load(|_| ()) else { return };
    run(async {
        let mut stream = generator.stream(&request("Tell me everything about the sea.", 900)).await.expect("a stream");
        assert!(stream.next().await.expect("an event").is_ok());
        drop(generator);
        let mut last = None;
        while let Some(event) = stream.next().await {
            last = Some(event);
        }
        assert_eq!(last.expect("an end").expect_err("unfinished").kind(), ErrorKind::Unavailable);
    });
}

#[test]
fn what_the_model_does_not_take_is_refused() {
    let Some(generator) = load(|_| ()) else { return };
    let mut r = request("hi", 4);
    r.needs.tools = true;
    assert_eq!(run(generator.answer(&r)).expect_err("no tools").kind(), ErrorKind::Invalid);
    assert!(Generator::load(std::path::Path::new("none.gguf"), GeneratorOptions::new("x".into())).is_err());
}

/// ln P of each text after the request's prompt, each computed on its own from the first token: at each place the
/// probability among the tokens with which some text goes on, or the end where one ends.
fn scored_alone(generator: &Generator, request: &Request, texts: &[String]) -> Vec<f64> {
    let model = &generator.prepare.model;
    let vocab = model.vocab();
    let prompt = generator.prepare.template.render(model, &request.messages).expect("a prompt");
    let prompt = prompt::tokenise(model, &prompt);
    let mut context = new_context(model, &generator.prepare.options).expect("a context");
    let tokens = |text: &String| vocab.tokenize(text.as_bytes(), false, false);
    let all: Vec<_> = texts.iter().map(tokens).collect();
    let score = |text: &Vec<llama_cpp_2::token::LlamaToken>| {
        context.clear_kv_cache_seq(Some(0), None, None).expect("a sequence");
        let whole: Vec<_> = prompt.iter().chain(text).copied().collect();
        let (mut ln_p, mut batch) = (0.0, llama_cpp_2::llama_batch::LlamaBatch::new(48, 1));
        for (at, token) in whole.iter().enumerate() {
            batch.clear();
            batch.add(*token, i32::try_from(at).unwrap(), &[0], true).expect("room");
            context.decode(&mut batch).expect("computed");
            let logits = context.get_logits_ith(0);
            let Some(at) = (at + 1).checked_sub(prompt.len()) else { continue };
            let ends = (0..logits.len())
                .filter(|&id| vocab.is_eog(llama_cpp_2::token::LlamaToken(i32::try_from(id).unwrap())))
                .collect::<Vec<_>>();
            let followers = |text: &Vec<llama_cpp_2::token::LlamaToken>| match text.get(at) {
                Some(token) => vec![usize::try_from(token.0).unwrap()],
                None => ends.clone(),
            };
            let mut allowed: Vec<usize> =
                all.iter().filter(|other| other.starts_with(&text[..at])).flat_map(followers).collect();
            allowed.sort_unstable();
            allowed.dedup();
            let highest = allowed.iter().map(|&id| f64::from(logits[id])).fold(f64::NEG_INFINITY, f64::max);
            let weight = |ids: &[usize]| ids.iter().map(|&id| (f64::from(logits[id]) - highest).exp()).sum::<f64>();
            let p = weight(&followers(text)) / weight(&allowed);
            ln_p += p.ln();
        }
        ln_p
    };
    all.iter().map(score).collect()
}

#[test]
fn one_of_several_texts_is_chosen_as_if_each_had_been_scored_on_its_own() {
    let Some(generator) = load(|o| o.max_sequences = 3) else { return };
    let labels =
        ["card", "card_arrival", "card_payment_fee_charged", "card_payment_wrong_exchange_rate", "top_up_failed"];
    let labels: Vec<String> = labels
        .iter()
        .map(|l| (*l).to_owned())
        .chain(["exchange_rate", "lost or stolen card"].map(str::to_owned))
        .collect();
    let ask = |text: &str| {
        let mut request = request(text, 4);
        let list = format!("Answer with one of these labels and nothing else: {}", labels.join(", "));
        request.messages.insert(0, Message { role: Role::System, text: list });
        request.format = OutputFormat::OneOf(labels.clone());
        request.sampling.logprobs = Some(0);
        request
    };
    let requests = ["Where is my card?", "Why did you charge me a fee?", "My top-up failed", "???"].map(ask);
    run(async {
        let mut alone = Vec::new();
        for r in &requests {
            alone.push(generator.answer(r).await.expect("an answer"));
        }
        let mut largest = 0f64;
        for (r, answer) in requests.iter().zip(&alone) {
            let scores = scored_alone(&generator, r, &labels);
            let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let share = 1.0 / scores.iter().map(|score| (score - best).exp()).sum::<f64>();
            let chosen = labels.iter().position(|label| *label == answer.text).expect("a label");
            assert!(scores[chosen] >= best - 1e-3, "{} of {scores:?}", answer.text);
            let confidence = answer.confidence.expect("its share").get();
            assert!((confidence - share).abs() < 2e-3, "{confidence} for {share}");
            let tokens = answer.logprobs.as_ref().expect("asked for");
            let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.bytes.clone()).collect();
            assert_eq!(bytes, answer.text.as_bytes());
            let sum: f64 = tokens.iter().map(|token| f64::from(token.logprob)).sum();
            // A text that ends where another goes on has the end's probability besides.
            if answer.text != "card" {
                largest = largest.max((sum - scores[chosen]).abs());
            }
        }
        println!("largest difference of a log-probability: {largest:e}");
        assert!(largest < 1e-2);
        let together = join_all(requests.iter().map(|r| generator.answer(r))).await;
        for (a, b) in alone.iter().zip(together) {
            let b = b.expect("an answer");
            assert_eq!(a.text, b.text);
            assert!((a.confidence.expect("a share").get() - b.confidence.expect("a share").get()).abs() < 5e-3);
        }
        let mut none = requests[0].clone();
        none.format = OutputFormat::OneOf(Vec::new());
        assert_eq!(generator.answer(&none).await.expect_err("no text to choose").kind(), ErrorKind::Invalid);
    });
}

#[test]
fn an_answer_after_a_choice_is_what_it_was_before() {
    let Some(generator) = load(|o| o.max_sequences = 1) else { return };
    let free = request(QUESTIONS[0], 16);
    let mut choice = free.clone();
    choice.format = OutputFormat::OneOf(["Paris", "Paris is", "Rome", "Berlin"].map(str::to_owned).to_vec());
    run(async {
        let before = generator.answer(&free).await.expect("an answer").text;
        let chosen = generator.answer(&choice).await.expect("an answer");
        assert!(["Paris", "Paris is"].contains(&chosen.text.as_str()), "{}", chosen.text);
        assert_eq!(generator.answer(&free).await.expect("an answer").text, before);
    });
}
