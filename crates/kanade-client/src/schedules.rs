//! Schedules: the documents, what they did and will do, the freeze.

use kanade_model::{Freeze, Schedule, ScheduleId, Timestamp, api};
use reqwest::Method;

use crate::{Client, Error, Items, Precondition, Tagged};

impl Client {
    /// Every schedule by id, and what else lies among them.
    pub fn schedules(&self) -> Items<api::ScheduleListed> {
        self.list(&["api", "schedules"], Vec::new())
    }

    /// One schedule.
    ///
    /// # Errors
    /// Not found, and what every request may meet.
    pub async fn schedule(&self, id: &ScheduleId) -> Result<Tagged<Schedule>, Error> {
        self.call(Method::GET, &["api", "schedules", id.as_str()])?
            .read_tagged()
            .await
    }

    /// Stores a schedule.
    ///
    /// # Errors
    /// Invalid documents, a job that does not exist, a precondition that does not hold.
    pub async fn put_schedule(
        &self,
        schedule: &Schedule,
        when: &Precondition,
    ) -> Result<api::ScheduleStored, Error> {
        self.call(Method::POST, &["api", "schedules"])?
            .when(when)
            .json(schedule)
            .read()
            .await
    }

    /// Deletes a schedule.
    ///
    /// # Errors
    /// Not found, a precondition that does not hold.
    pub async fn delete_schedule(&self, id: &ScheduleId, when: &Precondition) -> Result<(), Error> {
        self.call(Method::DELETE, &["api", "schedules", id.as_str()])?
            .when(when)
            .done()
            .await
    }

    /// Stops a schedule from firing; with `cascade` agents may not start its job any more either.
    ///
    /// # Errors
    /// Not found, and what every request may meet.
    pub async fn disable_schedule(&self, id: &ScheduleId, cascade: bool) -> Result<(), Error> {
        let call = self.call(Method::POST, &["api", "schedules", id.as_str(), "disable"])?;
        call.query(&[("cascade", cascade.to_string())]).done().await
    }

    /// Lets a schedule fire again, from now on.
    ///
    /// # Errors
    /// Not found, documents that are not valid.
    pub async fn enable_schedule(&self, id: &ScheduleId) -> Result<(), Error> {
        self.call(Method::POST, &["api", "schedules", id.as_str(), "enable"])?
            .done()
            .await
    }

    /// Fires a schedule's job now.
    ///
    /// # Errors
    /// Not found, a job that is revoked, a plan that aims at nobody.
    pub async fn trigger_schedule(&self, id: &ScheduleId) -> Result<api::Fired, Error> {
        self.call(Method::POST, &["api", "schedules", id.as_str(), "trigger"])?
            .read()
            .await
    }

    /// Fires the slots of a time that did not fire.
    ///
    /// # Errors
    /// Not found, a time that is not over or holds too many slots.
    pub async fn backfill_schedule(
        &self,
        id: &ScheduleId,
        span: &api::Backfill,
    ) -> Result<Vec<api::Slot>, Error> {
        self.call(Method::POST, &["api", "schedules", id.as_str(), "backfill"])?
            .json(span)
            .read()
            .await
    }

    /// The next slots of a schedule.
    ///
    /// # Errors
    /// Not found, and what every request may meet.
    pub async fn preview_schedule(&self, id: &ScheduleId, count: u32) -> Result<Vec<api::SlotAhead>, Error> {
        let call = self.call(Method::GET, &["api", "schedules", id.as_str(), "preview"])?;
        call.query(&[("n", count.to_string())]).read().await
    }

    /// What the schedules would fire after `from` and up to `until`, by time; at most a thousand slots.
    ///
    /// # Errors
    /// What every request may meet: see [`Error`].
    pub async fn upcoming(&self, from: Timestamp, until: Timestamp) -> Result<Vec<api::SlotAhead>, Error> {
        let call = self.call(Method::GET, &["api", "schedules", "upcoming"])?;
        let query = [
            ("from", from.to_string()),
            ("until", until.to_string()),
            ("n", "1000".to_owned()),
        ];
        call.query(&query).read().await
    }

    /// What became of the slots of a schedule, newest first.
    pub fn slots(&self, id: &ScheduleId) -> Items<api::Slot> {
        self.list(&["api", "schedules", id.as_str(), "slots"], Vec::new())
    }

    /// The freeze that holds or is to come.
    ///
    /// # Errors
    /// What every request may meet: see [`Error`].
    pub async fn freeze(&self) -> Result<Option<Freeze>, Error> {
        self.call(Method::GET, &["api", "freeze"])?.read().await
    }

    /// Keeps the schedules from firing for a while.
    ///
    /// # Errors
    /// Invalid freezes.
    pub async fn set_freeze(&self, freeze: &Freeze) -> Result<Freeze, Error> {
        self.call(Method::PUT, &["api", "freeze"])?
            .json(freeze)
            .read()
            .await
    }

    /// Lets the schedules fire again.
    ///
    /// # Errors
    /// What every request may meet: see [`Error`].
    pub async fn clear_freeze(&self) -> Result<(), Error> {
        self.call(Method::DELETE, &["api", "freeze"])?.done().await
    }
}
