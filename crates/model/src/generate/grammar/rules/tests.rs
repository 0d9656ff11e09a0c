use super::*;
use proptest::prelude::*;

fn message(grammar: &str) -> String {
    check(grammar).expect_err("refused").message().to_owned()
}

/// As llama.cpp's own examples write them.
const ARITHMETIC: &str = r#"
root  ::= (expr "=" ws term "\n")+ # one a line
expr  ::= term ([-+*/] term)*
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]{1,3} ws
ws    ::= [ \t\n]*
"#;

#[test]
fn ordinary_grammars_pass() {
    let json = r#"
root ::= object
value ::= object | array | string | ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ws | "true" | "false" | "null"
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array ::= "[" ws ( value
  ("," ws value)*  # groups go over lines
)? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
ws ::= | " " | "\n" [ \t]{0,20}"#;
    for good in [
        ARITHMETIC,
        json,
        "root ::= \"a\"",
        "root ::= [a-z\\]-]* . <think> !<[12]> \"é\" | \"\" | x-1\r\nx-1 ::= \"{3,1}\" \"a\"{ 1 , 3 }",
        // What vanishes may be repeated: the repetition leaves nothing behind.
        "root ::= (a | \"\\n\"?)* (\"x\"* \"y\"*)+\na ::= b\nb ::= \"\" | \"z\"",
        "root ::= a b root | \"x\"\na ::= \"1\"?\nb ::= \"2\"",
        "root ::= (\"a\"? \"b\"?){0,500}",
    ] {
        check(good).unwrap_or_else(|error| panic!("{error}\n{good}"));
    }
    let labels: Vec<_> = (0..10_000).map(|i| format!("\"label {i}\"")).collect();
    check(&format!("root ::= {}", labels.join(" | "))).expect("a choice among many");
}

#[test]
fn left_recursion_is_found_behind_whatever_vanishes() {
    for bad in [
        "root ::= root \"x\" | \"y\"",
        "root ::= e root \"x\" | \"y\"\ne ::= f\nf ::= \"\" | \"z\"",
        "root ::= a \"x\" | \"y\"\na ::= e b\nb ::= e root\ne ::= (\"z\"*)",
        "root ::= (e e root \"x\")? \"y\"\ne ::= [] | \"z\"",
        "root ::= \"y\"\nunused ::= unused \"x\" | \"y\"",
        "root ::= ((e){2} root \"x\")+ | \"y\"\ne ::= ((f))\nf ::= f \"z\" |",
    ] {
        assert!(message(bad).contains("is left-recursive"), "{bad}: {}", message(bad));
    }
    assert!(message("root ::= a\na ::= e b \"x\"\nb ::= a\ne ::= \"\"").contains("`"));
}

#[test]
fn what_would_take_all_time_is_refused() {
    let chain = |body: &dyn Fn(usize) -> String| {
        let rules: Vec<_> = (0..40).map(|i| format!("r{i} ::= {}", body(i + 1))).collect();
        format!("root ::= r0\n{}\nr40 ::= \"x\"\ne ::= f\nf ::= \"\" | \"z\"", rules.join("\n"))
    };
    for bad in [
        chain(&|next| format!("r{next} | r{next}")),
        chain(&|next| format!("r{next} \"x\" | r{next} \"y\"")),
        chain(&|next| format!("e r{next} \"x\" | e r{next} \"y\"")),
        format!("root ::= {}", vec!["\"x\""; 30_000].join("|")),
    ] {
        assert!(message(&bad).contains("can begin in too many ways"), "{}", message(&bad));
    }
}

#[test]
fn what_would_take_all_memory_or_stack_is_refused() {
    let long = "a".repeat(250_000);
    for bad in [
        format!("root ::= \"{long}\"{{2000}}"),
        format!("root ::= \"{}\"{}", &long[..100_000], "+".repeat(100_000)),
        format!("root ::= {}", "\"a\"{0,2000}".repeat(20_000)),
        format!("root ::= {}", "\"a\"{2000}".repeat(20_000)),
    ] {
        assert!(message(&bad).contains("repeat less"), "{}", message(&bad));
    }
    assert!(check("root ::= (\"a\"{1000}){1000}").is_ok());
    assert!(message("root ::= (\"a\" (\"b\"?)){1000}").contains("more than 2000 rules"));
    assert!(message("root ::= \"a\"{3,1}").contains("ends before it begins"));
    assert!(message("root ::= \"a\"{2001}").contains("more than 2000"));
    assert!(check("root ::= \"a\"{1,3000}").is_ok());
    assert!(message(&format!("root ::= {}\"a\"{}", "(".repeat(65), ")".repeat(65))).contains("deep"));
    assert!(check(&format!("root ::= {}\"a\"{}", "(".repeat(64), ")".repeat(64))).is_ok());
    // A comment ends at a carriage return too.
    assert!(message(&format!("root ::= (#\r{}", "(".repeat(200_000))).contains("deep"));
    // Groups whose rules begin with one another, 60 in each of 1,800.
    let deep: Vec<_> = (0..1_800).map(|i| format!("r{i} ::= {}r{}{}", "(".repeat(60), i + 1, ")".repeat(60))).collect();
    assert!(message(&format!("root ::= r0\n{}\nr1800 ::= \"x\"", deep.join("\n"))).contains("too many ways"));
}

#[test]
fn what_llama_cpp_cannot_read_is_refused_with_its_line() {
    for (bad, why) in [
        ("root ::= \"a", "missing"),
        ("root ::= \"a\"\nb := \"c\"", "line 2: `::=` is missing after `b`"),
        ("root ::= ( \"a\"", "`)` is missing"),
        ("root ::= \"\\q\"", "escape"),
        ("root ::= \"\\u12\"", "4 hexadecimal"),
        ("root ::= a_b", "line 1"),
        ("root ::= *", "nothing to repeat"),
        ("root ::= \"\"?", "nothing to repeat"),
        ("root ::= \"a\"{x}", "number"),
        ("root ::= \"a\"{99999999999999999999}", "number"),
        ("root ::= a", "`a` is used and not defined"),
        ("a ::= \"b\"", "`root`"),
        ("root ::= <aaa", "missing"),
        ("root ::= \"\0\"", "zero byte"),
        ("", "`root`"),
    ] {
        assert!(message(bad).contains(why), "{bad}: {}", message(bad));
    }
    assert!(message(&"x".repeat(MAX_BYTES + 1)).contains("limit"));
    assert!(message(&"root ::= \"a\"\n".repeat(MAX_RULES + 1)).contains("more than 2000 rules"));
}

/// Whether rule `from` can give nothing, or begin with rule `to`, told by trying all ways.
fn begins_naively(rules: &Rules<'_>) -> Vec<Vec<bool>> {
    let n = rules.rules.len();
    let mut vanishing = vec![false; n];
    let alternatives = |rule: usize| rules.rules[rule].split(|element| *element == Element::Or);
    for _ in 0..n {
        for rule in 0..n {
            vanishing[rule] |= alternatives(rule)
                .any(|alternative| alternative.iter().all(|e| matches!(e, Element::Rule(other) if vanishing[*other])));
        }
    }
    assert_eq!(rules.vanishing(), vanishing);
    let mut begins = vec![vec![false; n]; n];
    for (rule, begins) in begins.iter_mut().enumerate() {
        for alternative in alternatives(rule) {
            for (at, element) in alternative.iter().enumerate() {
                let Element::Rule(other) = *element else { break };
                begins[other] |= other != rule || at == 0 || at + 1 < alternative.len();
                if !vanishing[other] {
                    break;
                }
            }
        }
    }
    for middle in 0..n {
        for from in 0..n {
            for to in 0..n {
                begins[from][to] |= begins[from][middle] && begins[middle][to];
            }
        }
    }
    begins
}

proptest! {
    #[test]
    fn small_grammars_are_refused_where_a_rule_begins_with_itself(
        rules in proptest::collection::vec("(([abcr]|\"x\"|\"\"|\\(([abr] ?|\"\")\\|[bc]\\))[*?+]? ?){0,3}(\\| ?([abc] ?){0,2})?", 4)
    ) {
        let rules: Vec<_> =
            ["root", "a", "b", "c"].iter().zip(&rules).map(|(name, rule)| format!("{name} ::= {rule}")).collect();
        let grammar = rules.join("\n").replace('r', "root ").replace("root oot", "root");
        if let Ok(parsed) = Parser::read(&grammar) {
            let begins = begins_naively(&parsed);
            let circle = (0..begins.len()).any(|rule| begins[rule][rule]);
            prop_assert_eq!(parsed.check().is_err(), circle, "{}", grammar);
        }
    }

    #[test]
    fn any_text_is_read_to_its_end(text in "(root ::= )?[a-c\"\\[\\](){}<>!|*+?.,:=#\\\\xu0-9é \n\r-]{0,60}") {
        let _ = check(&text);
    }
}
