//! What `understudy init` writes: a configuration that works as it is and explains itself.

/// A commented configuration for an OpenAI-compatible API.
pub(crate) const TEMPLATE: &str = r#"# Understudy's configuration. `understudy check` says what it means; a running gateway takes changes in by itself.

[server]
listen = "127.0.0.1:8484"            # clients use http://127.0.0.1:8484/v1 as their base URL
# api_keys = ["env:UNDERSTUDY_API_KEY"]   # keys that clients must present; required beyond this machine
default_upstream = "openai"          # answers every model name that is not mentioned below
default_model = "gpt-4o-mini"        # what the model name `auto` means when no task matches
# timeout_s = 600                    # longest time for one request
# drain_s = 30                       # how long a stop waits for open requests

[store]
path = "understudy.db"               # SQLite: one row for every request
# durability = "power"               # "power" survives a power cut, "process" a crash of this process only
# texts = "full"                     # "full" is needed to learn; "redacted" or "dropped" keep less

[upstream.openai]
base_url = "https://api.openai.com/v1"    # any server that speaks OpenAI's API: vLLM, Ollama, llama.cpp, a gateway
api_key = "env:OPENAI_API_KEY"            # or "file:PATH"; never the key itself
# timeout_s = 120
# idle_timeout_s = 30                # a stream that is silent for longer has broken off
# retries = 2

# Prices come from a pinned table; a model that is not in it needs its own. USD per million tokens.
# [model.my-llm]
# upstream = "openai"
# name_there = "name/at-the-provider"
# price = { input = 0.15, cached_input = 0.075, output = 0.60 }

# A small model of the catalogue (`understudy list`), served under its own name: embeddings or chat in this process.
# [local.minilm]
# [local.smollm2]

# A task is a kind of request that a small model can learn. This one classifies e-mails.
#
# 1. mode = "observe": the large model answers, Understudy records.
# 2. understudy adapt finetune --task triage     learns from what was recorded
# 3. understudy pilot certify --task triage      proves how much the small model may answer
# 4. mode = "live": it answers that part; audits keep proving it.
#
# [task.triage]
# mode = "observe"                   # "observe", "shadow" or "live"
# large = "gpt-4o-mini"
# labels = ["spam", "ham"]
# epsilon = 0.02                     # at most 2 % of requests may be answered worse than the large model would …
# delta = 0.05                       # … with 95 % confidence
# audit = 0.1                        # share of local answers that the large model answers too, to keep proving it
# privacy = "any"                    # "local_only": texts never leave this machine
# [task.triage.match]                # every condition given must hold; `model: "auto:triage"` always works
# system_contains = "triage assistant"
# [task.triage.input]                # the text to classify, out of the last user message
# after = "<mail>"
# before = "</mail>"
# [task.triage.output]               # the form the application expects; without it, the bare label
# template = '{"label": "{label}"}'
"#;
