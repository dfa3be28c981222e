//! [`Steps`]: named pieces of work, timed and counted; the last line says how many failed.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;

/// The steps of one run.
#[derive(Debug)]
pub(crate) struct Steps {
    began_at: Instant,
    passed: usize,
    failed: Vec<String>,
}

impl Default for Steps {
    fn default() -> Self {
        Self { began_at: Instant::now(), passed: 0, failed: Vec::new() }
    }
}

impl Steps {
    /// Runs one step and says how it went. `None` when it failed; the run goes on.
    pub(crate) fn run<T>(&mut self, name: &str, step: impl FnOnce() -> Result<T>) -> Option<T> {
        println!("\n=== {name}");
        let began_at = Instant::now();
        let outcome = step();
        let took = began_at.elapsed();
        match outcome {
            Ok(value) => {
                self.passed += 1;
                println!("--- ok: {name} ({})", seconds(took));
                Some(value)
            }
            Err(error) => {
                println!("--- FAILED: {name} ({}): {error:#}", seconds(took));
                self.failed.push(format!("{name}: {error:#}"));
                None
            }
        }
    }

    /// Counts a step that could not be run as failed.
    pub(crate) fn could_not_run(&mut self, name: &str, missing: &str) {
        self.run::<()>(name, || anyhow::bail!("not run, because it needs {missing}"));
    }

    /// Prints the failures and the totals.
    pub(crate) fn finish(self) -> ExitCode {
        println!("\nin {}", seconds(self.began_at.elapsed()));
        for failure in &self.failed {
            println!("failed: {failure}");
        }
        println!("{} passed, {} failed", self.passed, self.failed.len());
        if self.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_fails_the_run_and_later_steps_still_run() {
        let mut steps = Steps::default();
        assert_eq!(steps.run::<()>("one", || anyhow::bail!("broken")), None);
        assert_eq!(steps.run("two", || Ok(2)), Some(2));
        steps.could_not_run("three", "one");
        assert_eq!((steps.passed, steps.failed.len()), (1, 2));
        assert_eq!(
            format!("{:?}", steps.finish()),
            format!("{:?}", ExitCode::FAILURE),
            "a run with a failure must not succeed"
        );
    }
}
