//! One thread per `Gpu` that polls the device, so that futures complete without a runtime and no caller has to poll.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use futures_channel::oneshot;

use super::Gpu;
use crate::error::{Error, Result};

/// What the thread is asked: wait for a submission, then say how that went.
struct Job {
    submission: wgpu::SubmissionIndex,
    done: oneshot::Sender<Result<(), String>>,
}

/// The thread and the sending end of its queue; the last `Gpu` that drops it ends the thread.
pub(super) struct Waiter {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Waiter {
    /// Waits for the thread, whose device is the last: a driver that is still closing when the program ends may crash it.
    fn drop(&mut self) {
        self.jobs = None;
        let Some(thread) = self.thread.take() else { return };
        // a completed future may have been run, and with it the last `Gpu` dropped, on that very thread
        if thread.thread().id() != std::thread::current().id() {
            let _ = thread.join();
        }
    }
}

impl Waiter {
    pub(super) fn start(device: wgpu::Device, lost: Arc<OnceLock<String>>) -> Result<Self> {
        let (jobs, queue) = channel();
        let thread = std::thread::Builder::new()
            .name("thalweg-waiter".into())
            .spawn(move || wait_for_jobs(&device, &queue, &lost))
            .map_err(|e| Error::Internal { during: "start of the waiter thread".into(), message: e.to_string() })?;
        Ok(Waiter { jobs: Some(jobs), thread: Some(thread) })
    }
}

fn wait_for_jobs(device: &wgpu::Device, jobs: &Receiver<Job>, lost: &OnceLock<String>) {
    while let Ok(Job { submission, done }) = jobs.recv() {
        let outcome = poll(device, wgpu::PollType::Wait { submission_index: Some(submission), timeout: None });
        if let Err(why) = &outcome {
            // Waiting fails only for a submission that never ran or a device that is gone. A plain poll runs the
            // callbacks that are due now, a device-lost callback among them.
            let _ = poll(device, wgpu::PollType::Poll);
            let _ = lost.set(why.clone());
        }
        let _ = done.send(outcome);
    }
}

/// wgpu panics in `poll` where the wait itself fails, which is how some drivers show a lost device; a host's callbacks run
/// in here too, and a panic of theirs must not end the thread.
fn poll(device: &wgpu::Device, how: wgpu::PollType) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(|| device.poll(how))) {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the driver failed while waiting for the GPU".to_string()),
    }
}

impl Gpu {
    /// Completes when the GPU has finished a submission and its callbacks have run.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] where the submission was dropped because the device is gone.
    pub(crate) fn finished(
        &self,
        submission: wgpu::SubmissionIndex,
    ) -> impl Future<Output = Result<()>> + Send + 'static {
        let (done, outcome) = oneshot::channel();
        let sent = self.0.waiter.jobs.as_ref().is_some_and(|jobs| jobs.send(Job { submission, done }).is_ok());
        let gpu = self.clone();
        async move {
            let gone = |why: String| Error::DeviceLost(gpu.0.lost.get().cloned().unwrap_or(why));
            let ended = || gone("the waiter thread has ended".into());
            if !sent {
                return Err(ended());
            }
            outcome.await.map_err(|_| ended())?.map_err(gone)
        }
    }
}
