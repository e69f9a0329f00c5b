//! The runner of `thalweg check`: what is wrong fails, what is expected to fail does not, and a check that loses the device
//! or panics takes nothing else with it.

use std::sync::Mutex;

use thalweg::check::{
    Check, Expectation, Fault, Format, Machine, Record, Report, Run, Status, Wrong, choose, inventory,
};
use thalweg::{CancelToken, Error, Gpu, GpuOptions};

fn open() -> thalweg::Result<Gpu> {
    Gpu::new_blocking(GpuOptions::default())
}

fn wrong(name: &str) -> Check {
    let fault = || Fault { error: 0.25, what: "Scratch(1): worst at 7: 1.0 instead of 2.0".into() };
    Check::new("gate", name.into(), move |_, _| Err(fault().into()))
}

fn right(name: &str) -> Check {
    Check::new("gate", name.into(), |_, _| Ok(1e-7))
}

fn records(checks: &[Check], expected: &[Expectation]) -> Vec<Record> {
    let machine = Machine::new(Some(0), open().expect("an adapter").info());
    let run = Run { machine: &machine, seed: 3, expected, arguments: "--adapter 0 ", cancel: &CancelToken::new() };
    let told = Mutex::new(0);
    let records = run.all(&open, checks, &|_| *told.lock().unwrap() += 1).unwrap();
    assert_eq!((records.len(), *told.lock().unwrap()), (checks.len(), checks.len()), "each is told of once");
    assert!(records.iter().zip(checks).all(|(record, check)| record.name == check.name), "in order");
    records
}

fn known(check: &str) -> Expectation {
    let text = format!(r#"[{{"check": "{check}", "reason": "a bug of the driver", "link": "https://example.org/1"}}]"#);
    Expectation::read(&text).unwrap().remove(0)
}

#[test]
fn a_failure_says_what_is_wrong_and_how_to_repeat_it() {
    let records = records(&[right("a"), wrong("it's [1,2]x[2,3]")], &[]);
    assert_eq!((records[0].status, records[1].status), (Status::Pass, Status::Fail));
    assert_eq!((records[0].error, records[1].error), (Some(1e-7), Some(0.25)));
    assert_eq!(records[1].reason.as_deref(), Some("Scratch(1): worst at 7: 1.0 instead of 2.0"));
    let again = r"thalweg check --adapter 0 --seed 3 --filter 'it'\''s [1,2]x[2,3]'";
    assert_eq!(records[1].repeat.as_deref(), Some(again));
}

#[test]
fn what_is_expected_to_fail_must() {
    let records = records(&[wrong("first"), right("second"), right("third")], &[known("first"), known("second")]);
    let statuses: Vec<_> = records.iter().map(|record| record.status).collect();
    assert_eq!(statuses, [Status::Xfail, Status::Xpass, Status::Pass]);
    for record in &records[..2] {
        let reason = record.reason.as_deref().unwrap();
        assert!(reason.contains("a bug of the driver (https://example.org/1)"), "{reason}");
    }
    let mut report = Report::new(Vec::new());
    report.cases = records;
    assert_eq!(report.failures(), 1, "the one that passes");
}

#[test]
fn expectations_are_of_adapters_backends_and_drivers() {
    let machine = Machine::new(None, open().expect("an adapter").info());
    let fits = |change: &dyn Fn(&mut Expectation)| {
        let mut known = known("gate");
        change(&mut known);
        known.fits(&machine, "gate[silu] 3 rows of 85")
    };
    assert!(fits(&|_| {}));
    assert!(fits(&|known| known.adapter = machine.name.clone()));
    assert!(fits(&|known| known.backend = machine.backend.clone()));
    assert!(fits(&|known| known.driver = machine.driver_info.clone()));
    assert!(!fits(&|known| known.adapter = "nosuchadapter".into()));
    assert!(!fits(&|known| known.backend = "nosuchbackend".into()));
    assert!(!fits(&|known| known.driver = "nosuchdriver".into()));
    assert!(!fits(&|known| known.check = "matmul".into()));
}

#[test]
fn a_check_that_loses_the_device_fails_alone() {
    let loses = Check::new("gate", "loses it".into(), |gpu, _| {
        gpu.device().destroy();
        // every later call says so
        let all = choose(inventory(), false, Some("residual_add 1 rows of 255"));
        all[0].work(gpu, 1).map(|_| 0.0)
    });
    let panics = Check::new("gate", "panics".into(), |_, _| panic!("on purpose"));
    let mut checks = vec![panics, loses];
    checks.extend(choose(inventory(), false, Some("residual_add")));
    let records = records(&checks, &[]);
    assert_eq!((records[0].status, records[0].reason.as_deref()), (Status::Fail, Some("a panic: on purpose")));
    assert_eq!(records[1].status, Status::Fail);
    assert!(records[1].reason.as_deref().unwrap().contains("device was lost"), "{:?}", records[1]);
    for record in &records[2..] {
        assert_eq!(record.status, Status::Pass, "{record:?}");
    }
}

#[test]
fn what_the_device_lacks_is_skipped_with_a_reason() {
    let mut check = right("needs it");
    check.needs.features = wgpu::Features::PIPELINE_STATISTICS_QUERY;
    let records = records(&[check], &[]);
    assert_eq!(records[0].status, Status::Skip);
    assert_eq!(records[0].reason.as_deref(), Some("the adapter has no pipeline statistics query"));
}

#[test]
fn a_cancelled_run_ends() {
    let machine = Machine::new(None, open().expect("an adapter").info());
    let cancel = CancelToken::new();
    let run = Run { machine: &machine, seed: 3, expected: &[], arguments: "", cancel: &cancel };
    let outcome = run.all(&open, &inventory(), &|_| cancel.cancel());
    assert!(matches!(outcome, Err(Error::Cancelled)));
    let nothing = run.all(&|| Err(Error::NoAdapter("none".into())), &[], &|_| {});
    assert!(matches!(nothing, Err(Error::NoAdapter(_))));
}

#[test]
fn formats_are_told_by_the_name() {
    let formats = ["a.json", "b.XML", "c.tap", "d.txt", "json"].map(Format::of_file);
    assert_eq!(formats, [Some(Format::Json), Some(Format::Junit), Some(Format::Tap), None, None]);
}

/// `Wrong` is what checks of others return.
#[test]
fn errors_of_the_engine_are_failures() {
    let failing = Check::new("gate", "fails".into(), |_, _| Err(Wrong::from(Error::Input("no input".into()))));
    let records = records(&[failing], &[]);
    assert_eq!((records[0].status, records[0].reason.as_deref()), (Status::Fail, Some("no input")));
}
