//! What armed failpoints do to a process.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are tests, which clippy does not see

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output};

use atoll_fault::{FAILPOINTS_VARIABLE, Known, PLANTED_VARIABLE, VISITS_VARIABLE, failpoint, planted, step_io};

const CHILD: &str = "ATOLL_TEST_FAILPOINT_CHILD";
const KNOWN: Known<'_> = Known {
    failpoints: &["test.step.before"],
    failpoints_io: &["test.work.before", "test.work.after"],
    planted: &["test_bug"],
};

fn work(step: u32) -> std::io::Result<()> {
    println!("work {step}");
    Ok(())
}

/// What the process under test does: three steps, each told.
fn steps() {
    if let Err(error) = atoll_fault::arm(&KNOWN) {
        println!("refused: {error}");
        return;
    }
    for step in 1..=3 {
        failpoint!("test.step.before");
        let done = step_io!("test.work", |error: std::io::Error| error, work(step));
        println!("step {step}: {}", done.map_or_else(|error| error.to_string(), |()| "done".to_owned()));
    }
    println!("bug: {}", planted!("test_bug"));
}

/// Runs the steps in a process of their own.
fn run(variables: &[(&str, &str)]) -> (Output, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_process_that_is_not_asked_to_fails_nowhere", "--nocapture"]).env(CHILD, "1");
    for variable in [FAILPOINTS_VARIABLE, VISITS_VARIABLE, PLANTED_VARIABLE] {
        command.env_remove(variable);
    }
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output, text)
}

#[test]
fn a_process_that_is_not_asked_to_fails_nowhere() {
    if std::env::var_os(CHILD).is_some() {
        return steps();
    }
    let (output, text) = run(&[]);
    assert!(output.status.success() && text.contains("step 3: done"), "{text}");
    assert!(text.contains("bug: false"), "{text}");
}

#[test]
fn the_process_is_killed_at_the_visit_that_is_named() {
    let (output, text) = run(&[(FAILPOINTS_VARIABLE, "test.step.before=kill@3")]);
    assert_eq!(output.status.signal(), Some(9), "{text}");
    assert!(text.contains("step 2: done") && !text.contains("step 3"), "{text}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("failpoint test.step.before: killed at visit 3"), "{said}");
}

#[test]
fn a_step_fails_before_or_after_it_was_done_and_not_again() {
    for (side, done) in [("before", false), ("after", true)] {
        let (output, text) = run(&[(FAILPOINTS_VARIABLE, &format!("test.work.{side}=error@2"))]);
        assert!(output.status.success(), "{text}");
        assert!(text.contains(&format!("step 2: failpoint test.work.{side}")), "{text}");
        assert_eq!(text.contains("work 2"), done, "{side}: {text}");
        assert!(text.contains("step 1: done") && text.contains("step 3: done"), "{text}");
    }
}

#[test]
fn each_failpoint_is_written_down_at_its_first_visit() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("visits");
    let name = file.to_str().unwrap();
    const VISITED: &str = "test.step.before\ntest.work.before\ntest.work.after\ntest.step.before\n";
    run(&[(VISITS_VARIABLE, name)]);
    run(&[(VISITS_VARIABLE, name), (FAILPOINTS_VARIABLE, "test.step.before=kill@1")]);
    assert_eq!(std::fs::read_to_string(Path::new(name)).unwrap(), VISITED);
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    for (value, why) in [
        ("test.step.before", "NAME=kill@N"),
        ("test.stop.before=kill@1", "there is no failpoint test.stop.before"),
        ("test.step.before=error@1", "only kill works there"),
    ] {
        let (_, text) = run(&[(FAILPOINTS_VARIABLE, value)]);
        assert!(text.contains("refused: ATOLL_FAILPOINTS: ") && text.contains(why), "{value}: {text}");
    }
    let (_, text) = run(&[(PLANTED_VARIABLE, "no_such_bug")]);
    assert!(text.contains("refused: ATOLL_PLANTED: "), "{text}");
}
