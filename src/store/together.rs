//! Reads of many requests by one query: while one runs, those that come in meanwhile gather for the next, and whoever
//! comes first waits for nobody. Every answer was read after it was asked for.

use std::sync::Mutex;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::StoreError;

type Waiting<K, V> = Vec<(K, oneshot::Sender<Result<V, StoreError>>)>;

/// Reads values by keys.
pub struct Together<K, V> {
    waiting: Mutex<Waiting<K, V>>,
    /// Whose query runs.
    turn: tokio::sync::Mutex<()>,
}

impl<K, V> Default for Together<K, V> {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }
}

impl<K: Clone, V> Together<K, V> {
    /// The value of a key. Whoever's turn it is calls `read` for all that wait; it gives a value for each of the keys, in
    /// their order.
    ///
    /// # Errors
    /// The one of `read`, for everybody who waited for it.
    pub async fn get(
        &self,
        key: K,
        read: impl AsyncFnOnce(Vec<K>) -> Result<Vec<V>, StoreError>,
    ) -> Result<V, StoreError> {
        loop {
            let (answer, mut answered) = oneshot::channel();
            self.lock().push((key.clone(), answer));
            let turn = tokio::select! {
                biased;
                answered = &mut answered => match answered {
                    Ok(outcome) => return outcome,
                    // Who read for us has gone: their client hung up.
                    Err(_) => continue,
                },
                turn = self.turn.lock() => turn,
            };
            match answered.try_recv() {
                Ok(outcome) => return outcome,
                Err(TryRecvError::Closed) => continue,
                Err(TryRecvError::Empty) => {}
            }
            let waiting = std::mem::take(&mut *self.lock());
            let (keys, answers): (Vec<K>, Vec<_>) = waiting.into_iter().unzip();
            let outcome = read(keys).await;
            // Nobody is answered twice, and who has gone needs no answer.
            match outcome {
                Ok(values) => {
                    for (answer, value) in answers.into_iter().zip(values) {
                        let _ = answer.send(Ok(value));
                    }
                }
                Err(error) => {
                    for answer in answers {
                        let _ = answer.send(Err(error.clone()));
                    }
                }
            }
            drop(turn);
            return answered
                .await
                .unwrap_or_else(|_| Err(StoreError::Broken("a read gave no answer".to_owned())));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting<K, V>> {
        self.waiting
            .lock()
            .expect("nothing panics while it is held")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn those_who_come_during_a_read_share_the_next_one() {
        let together = Arc::new(Together::default());
        let (reads, go_on) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let mut asking = vec![];
        for n in 0..100 {
            let (together, reads, go_on) = (together.clone(), reads.clone(), go_on.clone());
            asking.push(tokio::spawn(async move {
                let read = async |keys: Vec<i32>| {
                    if reads.fetch_add(1, Ordering::SeqCst) == 0 {
                        go_on.notified().await;
                    }
                    Ok(keys.into_iter().map(|key| key * 2).collect())
                };
                assert_eq!(together.get(n, read).await.unwrap(), n * 2);
            }));
        }
        while together.lock().len() < 99 {
            tokio::task::yield_now().await;
        }
        go_on.notify_one();
        for task in asking {
            task.await.unwrap();
        }
        assert_eq!(reads.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_failure_reaches_all_who_waited_for_it_and_nobody_else() {
        let together = Together::default();
        let fails = async |_| Err(StoreError::Unavailable("off".to_owned()));
        let (one, other) = tokio::join!(together.get(1, fails), together.get(2, fails));
        for outcome in [one, other] {
            assert!(
                matches!(outcome, Err(StoreError::Unavailable(_))),
                "{outcome:?}"
            );
        }
        assert_eq!(together.get(3, async |keys| Ok(keys)).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn nobody_waits_for_one_who_has_gone() {
        let together = Arc::new(Together::default());
        let first = together.clone();
        let gone = tokio::spawn(async move {
            let never = async |_| std::future::pending().await;
            first.get(1, never).await
        });
        while together.turn.try_lock().is_ok() {
            tokio::task::yield_now().await;
        }
        let second = together.clone();
        let waits = tokio::spawn(async move { second.get(2, async |keys| Ok(keys)).await });
        while together.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        gone.abort();
        assert_eq!(waits.await.unwrap().unwrap(), 2);
    }
}
