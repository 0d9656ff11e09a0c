//! Prometheus metrics. Labels have few values: task, route, model, error kind; never a user's text.

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram, with_local_recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::sync::Arc;
use understudy_store::Trace;

/// Seconds; from a classifier in this process to a slow large model.
const LATENCY_BUCKETS_S: [f64; 14] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0];

/// The gateway's own recorder: two gateways in one process (as in the demo) do not mix their numbers.
pub(crate) struct Meters {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
}

impl Meters {
    pub(crate) fn new() -> Self {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &LATENCY_BUCKETS_S)
            .expect("the buckets are not empty")
            .build_recorder();
        let handle = recorder.handle();
        with_local_recorder(&recorder, || {
            describe_counter!("understudy_requests_total", "Requests by task, route, reason and ending");
            describe_counter!("understudy_cost_nanodollars_total", "Known cost in nano-dollars by task and model");
            describe_counter!("understudy_cost_unknown_total", "Calls whose model has no known price");
            describe_counter!("understudy_tokens_total", "Tokens by model and direction");
            describe_counter!("understudy_audits_total", "Audited answers by task and whether they agreed");
            describe_histogram!("understudy_request_seconds", Unit::Seconds, "From arrival to the trace's commit");
            describe_histogram!("understudy_first_byte_seconds", Unit::Seconds, "From arrival to the first byte");
        });
        Self { recorder: Arc::new(recorder), handle }
    }

    /// Counts a finished request.
    pub(crate) fn observe(&self, trace: &Trace) {
        let task = trace.task.as_ref().map_or("", |task| task.as_str()).to_owned();
        let route = route_label(trace.route);
        with_local_recorder(&*self.recorder, || {
            let ending = match trace.ending {
                understudy_store::Ending::Answered => "answered",
                understudy_store::Ending::Failed => "failed",
                understudy_store::Ending::ClientLeft => "client_left",
                understudy_store::Ending::BrokenOff => "broken_off",
            };
            counter!("understudy_requests_total", "task" => task.clone(), "route" => route,
                "reason" => trace.reason.clone(), "ending" => ending)
            .increment(1);
            histogram!("understudy_request_seconds", "task" => task.clone(), "route" => route)
                .record(trace.total_us as f64 * 1e-6);
            if let Some(us) = trace.first_byte_us {
                histogram!("understudy_first_byte_seconds", "task" => task.clone(), "route" => route)
                    .record(us as f64 * 1e-6);
            }
            for call in [&trace.small, &trace.large].into_iter().flatten() {
                self.call(&task, call);
            }
        });
    }

    /// Counts an audit or a shadow that arrived after its request.
    pub(crate) fn observe_audit(&self, task: &str, call: &understudy_store::Call, agreed: Option<bool>) {
        with_local_recorder(&*self.recorder, || {
            let agreed = agreed.map_or("unknown", |agreed| if agreed { "yes" } else { "no" });
            counter!("understudy_audits_total", "task" => task.to_owned(), "agreed" => agreed).increment(1);
            self.call(task, call);
        });
    }

    fn call(&self, task: &str, call: &understudy_store::Call) {
        let model = call.model.to_string();
        counter!("understudy_tokens_total", "model" => model.clone(), "direction" => "input")
            .increment(call.usage.input_tokens);
        counter!("understudy_tokens_total", "model" => model.clone(), "direction" => "output")
            .increment(call.usage.output_tokens);
        match call.cost {
            Some(cost) => counter!("understudy_cost_nanodollars_total", "task" => task.to_owned(), "model" => model)
                .increment(u64::try_from(cost.nanos()).unwrap_or(0)),
            None => counter!("understudy_cost_unknown_total", "model" => model).increment(1),
        }
    }

    /// The text that Prometheus reads.
    pub(crate) fn render(&self) -> String {
        self.handle.run_upkeep();
        self.handle.render()
    }
}

/// The route's name in metrics and headers.
pub(crate) fn route_label(route: understudy_store::Route) -> &'static str {
    match route {
        understudy_store::Route::Local => "local",
        understudy_store::Route::Escalated => "escalated",
        understudy_store::Route::Large => "large",
        understudy_store::Route::None => "none",
    }
}
