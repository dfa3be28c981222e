//! Whether the peer is alive: pings, their deadline, and progress.
//!
//! Any byte that comes in is life. A ping behind megabytes of unsent bytes says nothing about
//! the peer, so its deadline runs only while nothing is unsent; then, progress is what counts.

use std::time::{Duration, Instant};

use super::{Activity, Moment, Output, Phase, Session, timers::Timer};
use crate::{codes::CloseCode, frame};

/// While more than this is unsent, heartbeats wait: they would only lengthen the queue.
const HEARTBEAT_UNSENT_BYTES_MAX: usize = 64 * 1024;

/// The ping that is under way.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Life {
    /// How many pings were sent; the payload of the last one.
    pings: u32,
    /// When the last ping was handed out, until it is answered.
    sent_at: Option<Instant>,
    /// When the last ping was first seen to have left.
    left_at: Option<Instant>,
}

impl Life {
    /// The number of the ping that a pong answers, if one of that number was sent.
    pub(super) fn answered(&self, payload: &[u8]) -> Option<u32> {
        let ping = u32::from_be_bytes(payload.try_into().ok()?);
        (1..=self.pings).contains(&ping).then_some(ping)
    }

    /// Takes a pong; the round trip, if it answers the last ping.
    pub(super) fn pong(&mut self, payload: &[u8], now: Instant) -> Option<Duration> {
        if payload != self.pings.to_be_bytes() {
            return None;
        }
        let sent_at = self.sent_at.take()?;
        Some(now.saturating_duration_since(sent_at))
    }
}

impl Session {
    pub(super) fn timeout(&mut self, activity: Activity, moment: Moment) {
        for timer in Timer::ALL {
            if self.timers.take_due(timer, moment.now) {
                self.due(timer, activity, moment);
            }
        }
    }

    fn due(&mut self, timer: Timer, activity: Activity, moment: Moment) {
        let now = moment.now;
        match timer {
            Timer::Hello => self.close(CloseCode::HELLO_TIMEOUT, now),
            Timer::Ping => self.ping(now),
            Timer::Pong => self.pong_due(activity, now),
            Timer::Progress => self.progress_due(activity, now),
            Timer::Heartbeat => {
                self.timers.set(Timer::Heartbeat, now + self.config.heartbeat_interval);
                if activity.unsent_bytes <= HEARTBEAT_UNSENT_BYTES_MAX {
                    self.outputs.push_back(Output::Positions);
                }
            }
            Timer::End => match self.phase {
                Phase::Draining(code) => self.close_frame(code, now),
                Phase::Closing(code) => self.finish(code),
                Phase::Opening | Phase::Ready | Phase::Closed => {}
            },
        }
    }

    fn ping(&mut self, now: Instant) {
        self.timers.set(Timer::Ping, now + self.config.ping_interval);
        // One at a time: a ping that still waits in a stuffed socket is enough.
        if self.life.sent_at.is_none() {
            self.challenge(now);
        }
    }

    /// Sends a ping that the client has not had before; returns its number.
    pub(super) fn challenge(&mut self, now: Instant) -> u32 {
        self.life.pings = self.life.pings.wrapping_add(1);
        self.life.sent_at = Some(now);
        self.life.left_at = None;
        self.timers.set(Timer::Pong, now + self.config.pong_timeout);
        let payload = self.life.pings.to_be_bytes();
        self.outputs.push_back(Output::Send(frame::ping(&payload)));
        self.life.pings
    }

    fn pong_due(&mut self, activity: Activity, now: Instant) {
        let Some(sent_at) = self.life.sent_at else { return };
        let wait = self.config.pong_timeout;
        if activity.unsent_bytes > 0 {
            self.life.left_at = None;
            self.timers.set(Timer::Pong, now + wait);
            return;
        }
        if !self.may_read() {
            // The pong may wait in the socket, which is not read while requests are unanswered.
            self.life.left_at = Some(now);
            self.timers.set(Timer::Pong, now + wait);
            return;
        }
        let left_at =
            *self.life.left_at.get_or_insert(activity.progress_at.clamp(sent_at, now.max(sent_at)));
        if activity.inbound_at > sent_at {
            // Something came in after the ping: the peer lives, whatever became of its pong.
            self.life.sent_at = None;
        } else if now >= left_at + wait {
            let code = CloseCode::NO_PONG;
            self.release_all(code);
            self.goodbye(code, 0);
            self.outputs.push_back(Output::Send(frame::close(code, code.text())));
            self.finish(code);
        } else {
            self.timers.set(Timer::Pong, left_at + wait);
        }
    }

    fn progress_due(&mut self, activity: Activity, now: Instant) {
        let moved_at = activity.inbound_at.max(activity.progress_at);
        let wait = self.config.progress_timeout;
        if activity.unsent_bytes == 0 {
            self.timers.set(Timer::Progress, now + wait);
        } else if now >= moved_at + wait {
            self.finish(CloseCode::NO_PROGRESS);
        } else {
            self.timers.set(Timer::Progress, moved_at + wait);
        }
    }
}
