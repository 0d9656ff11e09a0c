use super::*;
use std::{collections::BTreeMap, path::PathBuf};

#[test]
fn every_row_is_well_formed_and_no_model_is_free() {
    let rows: Vec<ListPrice> = rows().collect();
    assert!(rows.len() >= 40, "{} rows", rows.len());
    for row in &rows {
        assert!(row.price.input_per_million > Money::ZERO, "{row:?}");
        assert!(row.price.cached_input_per_million > Money::ZERO, "{row:?}");
        assert!(row.price.cached_input_per_million <= row.price.input_per_million, "{row:?}");
        // Embeddings have no output.
        assert!(row.price.output_per_million > Money::ZERO || row.model.contains("embed"), "{row:?}");
    }
}

#[test]
fn a_known_model_has_its_price_and_an_unknown_one_has_none() {
    let mini = price_of("gpt-4o-mini").expect("known");
    let usd = |x| Money::from_usd(x).expect("small");
    assert_eq!(
        (mini.input_per_million, mini.cached_input_per_million, mini.output_per_million),
        (usd(0.15), usd(0.075), usd(0.6))
    );
    assert_eq!(price_of("openai/gpt-4o-mini"), Some(mini));
    assert_eq!(price_of("gpt-4o-mini-next"), None);
    assert_eq!(price_of(""), None);
}

#[test]
fn a_price_that_the_sources_dispute_says_what_they_say() {
    let row = find("mistral/open-mistral-nemo").expect("in the table");
    assert!(row.disputed);
    assert_eq!(row.dispute(), "models.dev says 0.15/0.15, genai-prices 0.15/0.15");
    let agreed = find("gpt-4o-mini").expect("in the table");
    assert_eq!((agreed.disputed, agreed.dispute().as_str()), (false, ""));
    assert!(rows().filter(|row| row.disputed).count() >= 10);
}

#[test]
fn an_unknown_model_gets_the_nearest_names_and_never_a_price() {
    let error = find("gpt-5.2-turbo").expect_err("no such model");
    assert!(error.message().contains("openai/gpt-5.2"), "{error}");
    assert!(find("").is_err() && find("zzzzzz").is_err());
    assert_eq!(find("gpt-5.2").expect("known").price, find("openai/gpt-5.2").expect("known").price);
    for row in rows() {
        assert_eq!(find(&format!("{}/{}", row.provider, row.model)).expect("in the table").price, row.price);
    }
}

#[test]
fn a_name_that_providers_sell_at_different_prices_needs_its_provider() {
    let mut by_model: BTreeMap<&str, Vec<ListPrice>> = BTreeMap::new();
    for row in rows() {
        by_model.entry(row.model).or_default().push(row);
    }
    for (model, rows) in by_model {
        let same = rows.iter().all(|row| row.price == rows[0].price);
        // A name that already has a provider in front may be another row's full name; then that row holds.
        if !rows.iter().any(|row| super::rows().any(|other| format!("{}/{}", other.provider, other.model) == row.model))
        {
            assert_eq!(price_of(model).is_some(), same, "{model}");
        }
        for row in rows {
            assert_eq!(price_of(&format!("{}/{}", row.provider, row.model)), Some(row.price));
        }
    }
}

/// Input, cached input and output in USD per million tokens, as the source writes them.
type Listed = (Option<f64>, Option<f64>, Option<f64>);

/// Providers as models.dev names them, and what LiteLLM puts before their models.
const PROVIDERS: [(&str, &str); 10] = [
    ("openai", ""),
    ("anthropic", ""),
    ("google", "gemini/"),
    ("mistral", "mistral/"),
    ("deepseek", "deepseek/"),
    ("xai", "xai/"),
    ("cohere", ""),
    ("groq", "groq/"),
    ("togetherai", "together_ai/"),
    ("fireworks-ai", "fireworks_ai/"),
];

/// Not texts in, texts out: priced by other units as well.
const OTHER_MEDIA: [&str; 8] = ["image", "audio", "realtime", "tts", "whisper", "vision", "video", "guard"];

fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

/// A CSV line whose fields may be quoted.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields.last_mut().expect("there is a first field").push(c),
        }
    }
    fields
}

/// Reads one of the two sources: (provider, model) → prices.
fn read(path: PathBuf, columns: [&str; 5]) -> Option<Vec<(String, String, Listed)>> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut lines = text.lines();
    let header = fields(lines.next()?);
    let at = columns.map(|name| header.iter().position(|h| h == name).expect("a column of the source"));
    let row = |line: &str| {
        let f = fields(line);
        (f[at[0]].clone(), f[at[1]].clone(), (number(&f[at[2]]), number(&f[at[3]]), number(&f[at[4]])))
    };
    Some(lines.map(row).collect())
}

/// What the third source says: (provider, model) → input and output, as `genai_prices/table.py` prints them.
/// Without the switch, what the table says of it: that column is checked by `cargo xtask prices` only.
fn third() -> BTreeMap<(String, String), (String, String)> {
    #[expect(clippy::disallowed_methods, reason = "a switch of this test")]
    let file = std::env::var("GENAI_PRICES").ok();
    let text = file.map(|file| std::fs::read_to_string(file).expect("the output of genai_prices/table.py"));
    let (text, at) = text.as_deref().map_or((TABLE, 8), |text| (text, 2));
    text.lines()
        .filter(|line| !line.starts_with(['#']) && !line.starts_with("provider,"))
        .map(|line| {
            let f: Vec<&str> = line.split(',').collect();
            let own = |i: usize| f.get(i).copied().unwrap_or("").to_owned();
            ((own(0), own(1)), (own(at), own(at + 1)))
        })
        .collect()
}

/// The table made from the sources; `None` where they are missing.
fn join() -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "tests find the data folder by the environment")]
    let data = std::env::var("UNDERSTUDY_DATA")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data").to_owned());
    let folder = PathBuf::from(data).join("prices");
    let prices = ["usd_per_mtok_in", "usd_per_mtok_cache_read", "usd_per_mtok_out"];
    let columns = ["provider", "model", prices[0], prices[1], prices[2]];
    let litellm = read(folder.join("litellm/chat_models.csv"), columns)?;
    let models_dev = read(folder.join("models_dev/models.csv"), columns)?;
    let litellm: BTreeMap<String, Listed> = litellm.into_iter().map(|(_, model, listed)| (model, listed)).collect();

    // Free, unpriced and negative entries say nothing about a bill.
    let priced = |listed: &Listed, model: &str| {
        listed.0.is_some_and(|x| x > 0.0) && listed.2.is_some_and(|x| x > 0.0 || model.contains("embed"))
    };
    let mut rows: BTreeMap<(usize, String), [Option<Listed>; 2]> = BTreeMap::new();
    for (provider, model, listed) in models_dev {
        let Some(p) = PROVIDERS.iter().position(|(name, _)| *name == provider) else { continue };
        if OTHER_MEDIA.iter().any(|word| model.contains(word)) || model.contains(',') {
            continue;
        }
        let theirs = litellm.get(&format!("{}{model}", PROVIDERS[p].1)).filter(|l| priced(l, &model)).copied();
        let ours = Some(listed).filter(|l| priced(l, &model));
        if theirs.is_some() || ours.is_some() {
            rows.insert((p, model), [theirs, ours]);
        }
    }
    // Dated names of the same models (gpt-4o-mini-2024-07-18), which only LiteLLM lists.
    let dated: Vec<((usize, String), Listed)> = litellm
        .iter()
        .flat_map(|(name, listed)| PROVIDERS.iter().enumerate().map(move |(p, (_, prefix))| (p, prefix, name, listed)))
        .filter_map(|(p, prefix, name, listed)| {
            let model = name.strip_prefix(prefix)?;
            let base = model.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
            let date = model[base.len()..].chars().filter(char::is_ascii_digit).count() == 8;
            let known = date && rows.contains_key(&(p, base.to_owned())) && !rows.contains_key(&(p, model.to_owned()));
            (known && priced(listed, model)).then(|| ((p, model.to_owned()), *listed))
        })
        .collect();
    rows.extend(dated.into_iter().map(|(key, listed)| (key, [Some(listed), None])));

    let mut text = format!("# {SNAPSHOT}; all MIT; USD per million tokens\n");
    text.push_str(
        "provider,model,input,cached_input,output,source,other_input,other_output,third_input,third_output\n",
    );
    let third = third();
    let show = |x: Option<f64>| x.map_or(String::new(), |x| x.to_string());
    for ((p, model), [theirs, ours]) in rows {
        let (input, cached, output) = theirs.or(ours).expect("one of the two is there");
        // A cache that costs nothing, or more than no cache, is an error of the source.
        let sane = |x: &f64| *x > 0.0 && input.is_some_and(|input| *x <= input);
        let cached = cached.filter(sane).or(ours.filter(|o| o.0 == input).and_then(|o| o.1).filter(sane));
        let source = match (theirs, ours) {
            (Some(_), Some(_)) => "both",
            (Some(_), None) => "litellm",
            _ => "models.dev",
        };
        let other = theirs.and(ours).filter(|o| (o.0, o.2) != (input, output));
        let (third_input, third_output) =
            third.get(&(PROVIDERS[p].0.to_owned(), model.clone())).cloned().unwrap_or_default();
        let line = [
            PROVIDERS[p].0.to_owned(),
            model,
            show(input),
            show(cached),
            show(output),
            source.to_owned(),
            show(other.and_then(|o| o.0)),
            show(other.and_then(|o| o.2)),
            third_input,
            third_output,
        ];
        text.push_str(&line.join(","));
        text.push('\n');
    }
    Some(text)
}

/// `UPDATE_PRICES=1` writes the table instead; `cargo xtask prices` sets it, with the third source in `GENAI_PRICES`.
#[test]
fn the_table_is_what_the_two_sources_give() {
    let Some(text) = join() else {
        println!("skipped: the price sources are not here");
        return;
    };
    for row in rows().filter(|row| row.disputed) {
        println!("the sources disagree: {}/{} at {:?}: {}", row.provider, row.model, row.price, row.dispute());
    }
    #[expect(clippy::disallowed_methods, reason = "a switch of this test")]
    if std::env::var("UPDATE_PRICES").is_ok() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/prices.csv"), &text).expect("the source tree");
        return;
    }
    assert_eq!(text, TABLE, "run with UPDATE_PRICES=1 and look at the difference");
}
