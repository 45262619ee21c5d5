//! Arrivals in order, never removed: a test takes the next match, or reads all of them.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// The limit after which an inbox closes itself.
pub const MOST_ENTRIES: usize = 200_000;

/// The latest entries that a failed wait prints.
const PRINTED_ENTRIES: usize = 40;

/// A bounded record of arrivals that one task fills and any number await.
#[derive(Debug)]
pub struct Inbox<T> {
    record: watch::Sender<Record<T>>,
}

#[derive(Debug)]
struct Record<T> {
    entries: Vec<Entry<T>>,
    closed: Option<String>,
}

#[derive(Debug)]
struct Entry<T> {
    item: Arc<T>,
    taken: bool,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        let (record, _) = watch::channel(Record {
            entries: Vec::new(),
            closed: None,
        });
        Self { record }
    }
}

impl<T: Debug> Inbox<T> {
    /// Adds an arrival and wakes the waiters.
    pub fn push(&self, item: T) {
        self.record.send_modify(|record| {
            if record.entries.len() < MOST_ENTRIES {
                record.entries.push(Entry {
                    item: Arc::new(item),
                    taken: false,
                });
            } else {
                record
                    .closed
                    .get_or_insert_with(|| format!("more than {MOST_ENTRIES} entries"));
            }
        });
    }

    /// Ends the arrivals. Only the first reason is kept.
    pub fn close(&self, reason: impl Into<String>) {
        self.record.send_modify(|record| {
            record.closed.get_or_insert_with(|| reason.into());
        });
    }

    /// The reason of the end, if arrivals have ended.
    pub fn closed(&self) -> Option<String> {
        self.record.borrow().closed.clone()
    }

    /// All arrivals, taken or not, in order.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.record
            .borrow()
            .entries
            .iter()
            .map(|entry| Arc::clone(&entry.item))
            .collect()
    }

    /// Takes the earliest match that was not taken before, if there is one.
    pub fn try_take(&self, fits: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        let mut found = None;
        self.record.send_if_modified(|record| {
            if let Some(entry) = record
                .entries
                .iter_mut()
                .find(|entry| !entry.taken && fits(&entry.item))
            {
                entry.taken = true;
                found = Some(Arc::clone(&entry.item));
            }
            false // no arrival, so no wake-up
        });
        found
    }

    /// Takes the earliest match that was not taken before, and waits for it if there is none.
    /// Fails at the deadline, or when the inbox is closed; the error lists the arrivals.
    pub async fn take(&self, what: &str, within: Duration, fits: impl Fn(&T) -> bool) -> Result<Arc<T>> {
        let deadline = Instant::now() + within;
        let mut arrivals = self.record.subscribe();
        loop {
            arrivals.mark_unchanged(); // first, so that an arrival during the search wakes this task
            if let Some(item) = self.try_take(&fits) {
                return Ok(item);
            }
            if let Some(reason) = self.closed() {
                bail!("{what} can no longer come ({reason}); {}", self.listing());
            }
            match timeout_at(deadline, arrivals.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => bail!("{what} can no longer come"),
                Err(_) => return Err(anyhow!("{what} did not come within {within:?}; {}", self.listing())),
            }
        }
    }

    /// Waits until the inbox is closed, and returns the reason.
    pub async fn until_closed(&self, within: Duration) -> Result<String> {
        let mut arrivals = self.record.subscribe();
        let waited = tokio::time::timeout(within, arrivals.wait_for(|record| record.closed.is_some())).await;
        match waited {
            Ok(Ok(record)) => Ok(record.closed.clone().unwrap_or_default()),
            Ok(Err(_)) | Err(_) => bail!("still open after {within:?}; {}", self.listing()),
        }
    }

    fn listing(&self) -> String {
        let record = self.record.borrow();
        let skipped = record.entries.len().saturating_sub(PRINTED_ENTRIES);
        let mut text = format!("{} arrived", record.entries.len());
        for (index, entry) in record.entries.iter().enumerate().skip(skipped) {
            text.push_str(&format!(
                "\n  {index:>3}{} {:?}",
                if entry.taken { "*" } else { " " },
                entry.item
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(100);

    #[tokio::test(start_paused = true)]
    async fn each_entry_is_taken_once_in_order() {
        let inbox = Inbox::default();
        for number in [1, 2, 4] {
            inbox.push(number);
        }
        let even = |number: &i32| number % 2 == 0;
        assert_eq!(*inbox.take("an even number", SOON, even).await.unwrap(), 2);
        assert_eq!(*inbox.take("an even number", SOON, even).await.unwrap(), 4);
        assert_eq!(*inbox.take("any number", SOON, |_| true).await.unwrap(), 1);
        let error = inbox.take("any number", SOON, |_| true).await.unwrap_err().to_string();
        assert!(
            error.starts_with("any number did not come within 100ms; 3 arrived"),
            "{error}"
        );
        assert_eq!(inbox.all().len(), 3);
    }

    #[tokio::test]
    async fn an_arrival_wakes_the_waiter() {
        let inbox = Arc::new(Inbox::default());
        let waiting = tokio::spawn({
            let inbox = Arc::clone(&inbox);
            async move { inbox.take("seven", Duration::from_secs(5), |number| *number == 7).await }
        });
        tokio::task::yield_now().await;
        inbox.push(3);
        inbox.push(7);
        assert_eq!(*waiting.await.unwrap().unwrap(), 7);
    }

    #[tokio::test]
    async fn a_closed_inbox_still_has_its_entries() {
        let inbox = Inbox::default();
        inbox.push('a');
        inbox.close("hung up");
        inbox.close("again");
        assert_eq!(*inbox.take("a", SOON, |_| true).await.unwrap(), 'a');
        let error = inbox.take("b", SOON, |_| true).await.unwrap_err().to_string();
        assert!(error.contains("hung up"), "{error}");
        assert_eq!(inbox.until_closed(SOON).await.unwrap(), "hung up");
    }
}
