use super::*;
use crate::summarise;
use parquet::{
    basic::Compression,
    data_type::{ByteArray, ByteArrayType, Int64Type},
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use proptest::prelude::*;
use std::{io::Write, sync::Arc};
use understudy_core::Role;

fn dataset(name: &str, text: impl Into<Bytes>) -> Dataset {
    read_bytes(name, text.into(), &Fields::default()).unwrap()
}

fn fails(name: &str, text: impl Into<Bytes>, fields: &Fields) -> String {
    let error = read_bytes(name, text.into(), fields).unwrap_err().to_string();
    assert!(error.contains(name), "{error}");
    error
}

fn texts_and_labels(data: &Dataset) -> Vec<(&str, Option<&str>)> {
    data.rows.iter().map(|row| (row.text.as_str(), row.gold())).collect()
}

/// A Parquet file with two columns.
fn parquet(rows: &[(&str, i64)], compression: Compression) -> Vec<u8> {
    let schema = parse_message_type("message m { REQUIRED BYTE_ARRAY text (UTF8); REQUIRED INT64 label; }").unwrap();
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut file = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut file, Arc::new(schema), properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let texts: Vec<ByteArray> = rows.iter().map(|(text, _)| ByteArray::from(*text)).collect();
    column.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let labels: Vec<i64> = rows.iter().map(|(_, label)| *label).collect();
    column.typed::<Int64Type>().write_batch(&labels, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    file
}

#[test]
fn every_format_gives_the_same_rows() {
    let jsonl = "\u{feff}{\"text\":\"a, b\",\"label\":1}\r\n\n{\"text\":\"c\",\"label\":2,\"x\":[]}\n";
    let expected = [("a, b", Some("1")), ("c", Some("2"))];
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(jsonl.as_bytes()).unwrap();
    let files: Vec<(&str, Vec<u8>, Format)> = vec![
        ("a.jsonl", jsonl.into(), Format::Jsonl),
        ("a.json", r#" [{"text":"a, b","label":1},{"text":"c","label":2}]"#.into(), Format::Json),
        ("a.csv", "x,text,label\n,\"a, b\",1\n,c,2\n".into(), Format::Csv),
        ("a.tsv", "text\tlabel\na, b\t1\nc\t2\n".into(), Format::Tsv),
        ("a.jsonl.zst", zstd::encode_all(jsonl.as_bytes(), 3).unwrap(), Format::Jsonl),
        ("a.jsonl.gz", gz.finish().unwrap(), Format::Jsonl),
        ("a.parquet", parquet(&[("a, b", 1), ("c", 2)], Compression::SNAPPY), Format::Parquet),
        ("a.parquet", parquet(&[("a, b", 1), ("c", 2)], Compression::UNCOMPRESSED), Format::Parquet),
        ("a", parquet(&[("a, b", 1), ("c", 2)], Compression::ZSTD(Default::default())), Format::Parquet),
    ];
    let hash = dataset("a.jsonl", jsonl).hash();
    for (name, bytes, format) in files {
        let data = dataset(name, bytes);
        assert_eq!((texts_and_labels(&data), data.format), (expected.to_vec(), format), "{name}");
        assert_eq!(data.hash(), hash, "{name}");
    }
}

#[test]
fn transcripts_give_the_conversation_and_the_last_answer() {
    let line = r#"{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"},
        {"role":"assistant","content":"Hello"},{"role":"user","content":[{"type":"text","text":"Who?"}]},
        {"role":"assistant","content":"Me."}]}"#
        .replace('\n', " ");
    let data = dataset("chat.jsonl", line.clone());
    let row = &data.rows[0];
    assert_eq!((data.format, row.text.as_str(), row.system.as_deref()), (Format::Chat, "Who?", Some("Be brief.")));
    assert_eq!((row.references.as_slice(), row.messages.len()), (["Me.".to_owned()].as_slice(), 3));
    assert_eq!(row.messages[1].role, Role::Assistant);
    let other = dataset("chat.jsonl", line.replace("Hello", "Howdy"));
    assert_ne!(other.rows[0].content_hash(), row.content_hash(), "the conversation belongs to the content");
    let error = fails("c.jsonl", r#"{"messages":[{"role":"system","content":"x"}]}"#, &Fields::default());
    assert!(error.contains("line 1: the conversation has no user message"), "{error}");
}

#[test]
fn outcomes_and_usual_names_are_recognised() {
    let data = dataset("o.jsonl", r#"{"id":"7","task":"t","prompt":"p","label":"g","models":{"m":{"quality":1}}}"#);
    assert_eq!((data.format, data.rows[0].id.as_str(), data.rows[0].gold()), (Format::Outcomes, "7", Some("g")));
    assert!(data.rows[0].extra.contains_key("models"));
    let data = dataset("h.csv", "idx,label,label_text,Utterance,domain\n0,3,card,Where is it?,bank\n");
    let found = data.mapping.pairs();
    let expected = [("text", "Utterance"), ("label", "label_text"), ("id", "idx"), ("group", "domain")];
    assert_eq!(found, expected);
    let data = dataset("q.jsonl", r#"{"question":"q","answers":{"text":["a","b"],"answer_start":[1,2]}}"#);
    assert_eq!(data.rows[0].references, ["a", "b"]);
    let data = dataset("e.jsonl", r#"{"foo":"a long text here","bar":"x"}"#);
    assert_eq!(data.mapping.text.as_deref(), Some("foo"), "the longest text without a usual name");
}

#[test]
fn named_fields_win_and_must_exist() {
    let fields = Fields { text: Some("b".into()), label: Some("a".into()), ..Fields::default() };
    let data = read_bytes("f.csv", "a,b,text\nx,y,z\n".into(), &fields).unwrap();
    assert_eq!(texts_and_labels(&data), [("y", Some("x"))]);
    let fields = Fields { label: Some("nope".into()), ..Fields::default() };
    assert!(fails("f.csv", "a,text\nx,y\n", &fields).contains("no `nope`; the fields are a, text"));
    assert!(fails("f.jsonl", r#"{"n":1,"m":[2]}"#, &Fields::default()).contains("name it with --text"));
}

#[test]
fn faults_name_the_line() {
    let ok = r#"{"id":"a","text":"t","label":"l"}"#;
    for (name, bad, says) in [
        ("f.jsonl", format!("{ok}\n{{\"id\":\"b\",\"label\":\"l\"}}"), "line 2: the text `text` is missing"),
        ("f.jsonl", format!("{ok}\n\n{{\"id\":"), "line 3: EOF while parsing"),
        ("f.jsonl", format!("{ok}\n[]"), "write one JSON object a line"),
        ("f.csv", "id,text,label\n1,t\n".into(), "line 2"),
        ("f.csv", "text,text\n1,t\n".into(), "column 2 has the name `text` again"),
        ("f.json", "[{\"text\":\"a\"},\n3]".into(), "line 2"),
        ("f.parquet", "PAR1 and nothing else".into(), "Parquet"),
        ("f.parquet", "text".into(), "not a Parquet file"),
        ("f.jsonl", String::new(), "no rows"),
    ] {
        let error = fails(name, bad, &Fields::default());
        assert!(error.contains(says), "{error}");
    }
    let twice = Fields { id: Some("id".into()), ..Fields::default() };
    assert!(fails("f.jsonl", format!("{ok}\n\n{ok}"), &twice).contains("line 3: id `a` appears twice"));
    assert!(
        fails("f.jsonl", b"{\"text\":\"\xff\"}".to_vec(), &Fields::default()).contains("line 1: the text is not UTF-8")
    );
    let no_label = dataset("f.jsonl", format!("{ok}\n{{\"id\":\"b\",\"text\":\"t\"}}")).examples().unwrap_err();
    assert!(no_label.to_string().contains("line 2: the label `label` is missing"), "{no_label}");
    let missing = read(Path::new("no/such/file.jsonl"), &Fields::default()).unwrap_err();
    assert!(missing.to_string().contains("no/such/file.jsonl"), "{missing}");
}

#[test]
fn the_summary_counts_duplicates_and_contradictions() {
    let rows = [
        ("Where is my new card that I ordered last week, please?", "a"),
        ("where is my new card that I ordered  last week, please?", "b"),
        ("Where is my new card that I ordered last weeks, please?", "b"),
        ("Something else", "a"),
    ];
    let text: String = rows.iter().map(|(t, l)| format!("{{\"text\":\"{t}\",\"label\":\"{l}\"}}\n")).collect();
    let summary = summarise(&dataset("s.jsonl", text));
    assert_eq!((summary.n, summary.duplicates, summary.near_duplicates), (4, 1, 1));
    assert_eq!(summary.labels, [("a".to_owned(), 2), ("b".to_owned(), 2)]);
    assert_eq!(summary.contradictions, [["1", "2"]]);
    assert_eq!(summary.near_contradictions, [("1".to_owned(), "3".to_owned())]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_make_the_reader_panic(
        ending in prop::sample::select(vec!["jsonl", "json", "csv", "tsv", "parquet", "jsonl.zst", "csv.gz"]),
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = read_bytes(&format!("f.{ending}"), bytes.into(), &Fields::default());
    }

    #[test]
    fn no_json_makes_the_reader_panic(
        text in r#"(\{("(text|label|id|messages|answers|models)":("[a-z ]{0,4}"|[0-9]|null|\[\{"role":"(user|assistant)","content":"x"\}\]|\[\]|\{\}),?){0,3}\}?\n){0,4}"#,
    ) {
        let _ = read_bytes("f.jsonl", text.into(), &Fields::default());
    }
}

#[test]
fn a_list_of_labels_is_read_as_one_in_every_format_and_refused_where_one_label_is_needed() {
    let lines = "{\"text\":\"a b\",\"labels\":[\"y\",\"x\",\"y\"]}\n{\"text\":\"c\",\"labels\":[]}\n";
    let data = read_bytes("a.jsonl", lines.into(), &Fields::default()).unwrap();
    assert_eq!(data.mapping.label.as_deref(), Some("labels"));
    assert_eq!(data.rows[0].labels.as_deref(), Some(&["x".to_owned(), "y".to_owned()][..]));
    assert_eq!((data.rows[0].gold(), data.rows[0].label.as_deref()), (Some(r#"["x","y"]"#), None));
    assert_eq!(data.rows[1].labels.as_deref(), Some(&[][..]));
    assert!(data.examples().unwrap_err().message().contains("its label is a list"));
    let table = "text,label\na b,\"[\"\"y\"\", 3]\"\n";
    let data = read_bytes("a.csv", table.into(), &Fields::default()).unwrap();
    assert_eq!(data.rows[0].labels.as_deref(), Some(&["3".to_owned(), "y".to_owned()][..]));
    let broken = "{\"text\":\"a\",\"label\":[\"x\",{}]}\n";
    let error = read_bytes("a.jsonl", broken.into(), &Fields { label: Some("label".into()), ..Fields::default() });
    assert!(error.unwrap_err().message().contains("line 1"));
}

#[test]
fn tokens_and_tags_of_different_lengths_are_named_with_their_line() {
    let lines = "{\"tokens\":[\"a\"],\"tags\":[\"O\"]}\n{\"tokens\":[\"a\",\"b\"],\"tags\":[\"O\"]}\n";
    let error = read_bytes("a.jsonl", lines.into(), &Fields::default()).unwrap_err();
    let said = "line 2: `tokens` has 2 entries and `tags` 1";
    assert!(error.message().contains(said), "{error}");
}
