//! Benchmarks of the whole product. Each prints a table; with `--json` the last line is one object.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its figures")]
#![expect(clippy::disallowed_methods, reason = "a bench measures time")]

mod adapt;
mod certificate;
mod crash;
mod encoder;
mod forecast;
mod gate;
mod generation;
mod labels;
mod power;
mod process;
mod recorded;
mod reference;
mod router;
mod sequential;
mod stream;
mod users;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "understudy-bench", about = "Measures Understudy")]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Train small models: speed and memory beside PyTorch, accuracy, and what cheaper kinds of models keep
    Adapt(adapt::AdaptArgs),
    /// Resample calibration sets: how often is a certificate wrong, and how much does it keep?
    Certificate(certificate::CertificateArgs),
    /// Kill the gateway under load: is every acknowledged request recorded exactly once?
    Crash(crash::CrashArgs),
    /// Encoder speed beside ONNX Runtime, and what int8 costs in accuracy
    Encoder(encoder::EncoderArgs),
    /// Gates beside raw signals, and how often the certificate of a chosen cascade is wrong
    Gate(gate::GateArgs),
    /// Forecasts of cost and latency against a replay of other requests
    Forecast(forecast::ForecastArgs),
    /// Generate at concurrency 1, 4 and 8: tokens per second beside llama.cpp's own batching.
    Generation(generation::GenerationArgs),
    /// Labels that the annotation queue needs beside chance, on Banking77
    Labels(labels::LabelsArgs),
    /// Tests of non-inferiority: betting beside a t-test, and the true level of the score test
    Power(power::PowerArgs),
    /// Our figures for the tests that compare them with other packages': requests on standard input
    #[command(hide = true)]
    Reference,
    /// Stop early when two models are compared: identical models called different, and calls saved
    Sequential(sequential::SequentialArgs),
    /// Routers on RouteLLM's MMLU: APGR and CPT of every kind over five seeds, and what a decision costs
    Router(router::RouterArgs),
    /// A student that starts from nothing on recorded streams: calls and accuracy beside fixed thresholds
    Stream(stream::StreamArgs),
    /// Latency of local answers under concurrent users, and the most users that hold 200 ms
    Users(users::UsersArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().bench {
        Bench::Adapt(args) => adapt::run(&args),
        Bench::Certificate(args) => certificate::run(&args),
        Bench::Crash(args) => crash::run(args).await,
        Bench::Encoder(args) => encoder::run(&args),
        Bench::Gate(args) => gate::run(&args),
        Bench::Forecast(args) => forecast::run(&args),
        Bench::Generation(args) => generation::run(args).await,
        Bench::Labels(args) => labels::run(&args),
        Bench::Power(args) => power::run(&args),
        Bench::Reference => reference::run(),
        Bench::Sequential(args) => sequential::run(&args),
        Bench::Router(args) => router::run(&args),
        Bench::Stream(args) => stream::run(&args),
        Bench::Users(args) => users::run(args).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed to {error}");
            ExitCode::from(error.kind().exit_code())
        }
    }
}
