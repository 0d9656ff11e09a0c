"""The official `openai` package against the gateway, unchanged: only the base URL and the key are set."""

import asyncio
import json
import math
import subprocess

import openai
import pytest
from conftest import KEY, RECORDED, binary, need

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def client(gateway):
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0)


def test_chat_completion_of_a_plain_llm_name(client):
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=QUESTION)
    assert answer.choices[0].message.content == "Paris"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (10, 5)


def test_auto_means_the_default_model(client):
    answer = client.chat.completions.create(model="auto", messages=QUESTION)
    assert answer.choices[0].message.content == "Paris"


def test_headers_say_what_happened(client):
    raw = client.chat.completions.with_raw_response.create(
        model="auto:spam",
        messages=[{"role": "user", "content": "Is this spam? <text>win a prize</text>"}],
        extra_headers={"x-request-id": "mine-1"},
    )
    assert raw.headers["x-request-id"] == "mine-1"
    assert raw.headers["x-understudy-task"] == "spam"
    assert raw.headers["x-understudy-route"] == "large"
    assert raw.headers["x-understudy-model"] == "gpt-4o-mini"
    # 10 input tokens at $0.15 and 5 output tokens at $0.60 per million.
    assert raw.headers["x-understudy-cost-usd"] == "0.000004500"
    assert len(raw.headers["x-understudy-trace"]) == 26


def test_stream_with_usage(client):
    stream = client.chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": "Count to five."}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "one two three four five"
    assert sum(1 for c in chunks if c.choices) > 3, "it came in pieces"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens == 5


def test_stream_without_usage_has_no_usage_chunk(client):
    stream = client.chat.completions.create(model="gpt-4o-mini", messages=QUESTION, stream=True)
    assert all(chunk.choices and chunk.usage is None for chunk in stream)


def test_async_client_and_many_at_once(gateway):
    async def run():
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY) as client:
            prompts = list(RECORDED) * 10
            calls = [
                client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": p}])
                for p in prompts
            ]
            answers = await asyncio.gather(*calls)
            assert [a.choices[0].message.content for a in answers] == [RECORDED[p] for p in prompts]

    asyncio.run(run())


def test_models_are_listed_and_found(client):
    ids = [model.id for model in client.models.list()]
    assert "auto" in ids and "auto:spam" in ids
    assert client.models.retrieve("auto:spam").owned_by == "understudy"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nope")


def test_embeddings_from_this_process(client):
    need("minilm")
    texts = ["my card is lost", "where is my credit card?", "a recipe for soup"]
    answer = client.embeddings.create(model="minilm", input=texts)
    vectors = [item.embedding for item in answer.data]
    assert [len(v) for v in vectors] == [384] * 3
    dot = lambda a, b: sum(x * y for x, y in zip(a, b))
    assert all(math.isclose(dot(v, v), 1.0, abs_tol=1e-4) for v in vectors)
    assert dot(vectors[0], vectors[1]) > dot(vectors[0], vectors[2]) + 0.2
    assert answer.usage.prompt_tokens > 10


def test_errors_have_the_types_the_client_knows(client, gateway):
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="gpt-4o-mini", messages=[])
    assert bad.value.param == "messages"
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="auto:nope", messages=QUESTION)
    assert "nope" in missing.value.message
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "not recorded"}])
    stranger = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        stranger.chat.completions.create(model="gpt-4o-mini", messages=QUESTION)


def test_feedback_reaches_the_trace(client, gateway):
    raw = client.chat.completions.with_raw_response.create(
        model="auto:spam",
        messages=[{"role": "user", "content": "Is this spam? <text>win a prize</text>"}],
    )
    trace = raw.headers["x-understudy-trace"]
    answer = client.post("/feedback", body={"trace_id": trace, "label": "ham"}, cast_to=object)
    assert answer["trace_id"] == trace
    with pytest.raises(openai.BadRequestError):
        client.post("/feedback", body={"trace_id": trace, "label": "no such label"}, cast_to=object)
    shown = subprocess.run(
        [binary(), "--config", gateway.path, "--json", "traces", "show", trace],
        capture_output=True, text=True, check=True, env={"GATEWAY_KEY": KEY, "HOME": "/"},
    )
    row = json.loads(shown.stdout.splitlines()[-1])
    assert row["gold"] == "ham" and row["large"]["label"] == "spam"


def test_generation_in_this_process(client):
    need("smollm2")
    messages = [{"role": "user", "content": "Name a colour. One word."}]
    whole = client.chat.completions.create(model="smollm2", messages=messages, temperature=0, max_tokens=16)
    stream = client.chat.completions.create(
        model="smollm2", messages=messages, temperature=0, max_tokens=16, stream=True
    )
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert whole.choices[0].message.content == streamed != ""
    assert whole.usage.prompt_tokens > 5


def test_structured_output_in_this_process(client):
    need("smollm2")
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model="smollm2",
        messages=[{"role": "user", "content": "Extract as JSON: Anna is 31 years old."}],
        response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": schema, "strict": True}},
        temperature=0,
        max_tokens=60,
    )
    person = json.loads(answer.choices[0].message.content)
    assert set(person) == {"name", "age"} and isinstance(person["age"], int)


def test_log_probabilities_in_this_process(client):
    need("smollm2")
    answer = client.chat.completions.create(
        model="smollm2", messages=QUESTION, temperature=0, max_tokens=4, logprobs=True, top_logprobs=3
    )
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == answer.usage.completion_tokens
    for token in tokens:
        assert len(token.top_logprobs) == 3
        assert token.logprob <= 0 and math.isclose(token.logprob, token.top_logprobs[0].logprob, abs_tol=1e-4)
