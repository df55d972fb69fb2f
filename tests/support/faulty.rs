//! An OpenDAL layer that makes a store fail on demand: the nth put, get, look, listing or removal, in the ways in which
//! real stores fail. It sits between the program and a real service (the memory service in most tests), so everything
//! above it is the code that ships. Controlled through [`Faults`], a handle that is shared with the layer.
//!
//! ```ignore
//! let faults = Faults::new();
//! let operator = Operator::new(services::Memory::default())?.layer(faults.layer());
//! faults.on(On::Put, Nth::At(3), Fault::Temporary);
//! ```

use opendal::raw::oio;
use opendal::raw::{
    BoxedFuture, Layer, OpCompose, OpCopy, OpCreateDir, OpDelete, OpList, OpPresign, OpRead, OpRename, OpRestore,
    OpStat, OpWrite, RpCreateDir, RpPresign, RpRead, RpRename, RpRestore, RpStat, Service, ServiceInfo, Servicer,
};
use opendal::{Buffer, BytesRange, Capability, Error, ErrorKind, Metadata, OperationContext, Result};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Which operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// An object is put.
    Put,
    /// An object is read.
    Get,
    /// The length of an object is asked for.
    Look,
    /// A listing is begun.
    List,
    /// An object is removed.
    Remove,
    /// Any of these.
    Any,
}

/// Which of them: counted from 1, from the moment the fault was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Nth {
    /// Only this one.
    At(u64),
    /// This one and all after it.
    From(u64),
    /// Every one on a path that contains this text.
    Path(String),
}

/// How it fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An error that may pass.
    Temporary,
    /// An error that stays.
    Permanent,
    /// The credentials do not allow it.
    Denied,
    /// The store has no space left.
    Full,
    /// The connection is reset.
    Reset,
    /// It works, but takes this much longer.
    Slow(Duration),
    /// A put that is answered with yes and not done; an object that is not there although it is; a listing that ends
    /// in good order before its first entry.
    Vanish,
    /// A listing that breaks off with an error after so many entries.
    BreakAfter(usize),
    /// A listing that leaves out the entry of this number, counted from 0, and says nothing.
    LeaveOut(usize),
    /// Only the first so many bytes are stored, or come back, with the length said to be that.
    Truncate(usize),
    /// Fewer bytes come back than the store says there are.
    ShortRead(usize),
    /// The lowest bit of this byte is turned over, on the way in or out.
    FlipBit(usize),
}

/// The handle: sets faults and counts operations.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    counts: [u64; 5],
}

#[derive(Debug)]
struct Rule {
    on: On,
    nth: Nth,
    fault: Fault,
    seen: u64,
}

impl Faults {
    /// No faults yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The layer to put on an operator.
    pub(crate) fn layer(&self) -> FaultLayer {
        FaultLayer(self.clone())
    }

    /// Adds a fault. Where several fit an operation, the one that was added first acts.
    pub(crate) fn on(&self, on: On, nth: Nth, fault: Fault) {
        self.state().rules.push(Rule { on, nth, fault, seen: 0 });
    }

    /// From now on nothing fails.
    pub(crate) fn clear(&self) {
        self.state().rules.clear();
    }

    /// How many such operations there were, failed ones and repeated ones among them.
    pub(crate) fn count(&self, on: On) -> u64 {
        let counts = self.state().counts;
        counts.get(on as usize).copied().unwrap_or_else(|| counts.iter().sum())
    }

    fn take(&self, on: On, path: &str) -> Option<Fault> {
        let mut state = self.state();
        state.counts[on as usize] += 1;
        let mut hit = None;
        for rule in state.rules.iter_mut().filter(|rule| rule.on == on || rule.on == On::Any) {
            rule.seen += 1;
            let fits = match &rule.nth {
                Nth::At(n) => rule.seen == *n,
                Nth::From(n) => rule.seen >= *n,
                Nth::Path(text) => path.contains(text),
            };
            if fits && hit.is_none() {
                hit = Some(rule.fault.clone());
            }
        }
        hit
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fault {
    /// The error of a fault that is one.
    fn error(&self) -> Option<Error> {
        let caused = |kind: io::ErrorKind| {
            Error::new(ErrorKind::Unexpected, "injected").set_source(io::Error::from(kind)).set_temporary()
        };
        match self {
            Self::Temporary => Some(Error::new(ErrorKind::Unexpected, "injected, may pass").set_temporary()),
            Self::Permanent => Some(Error::new(ErrorKind::Unexpected, "injected, stays")),
            Self::Denied => Some(Error::new(ErrorKind::PermissionDenied, "injected")),
            Self::Full => Some(caused(io::ErrorKind::StorageFull)),
            Self::Reset => Some(caused(io::ErrorKind::ConnectionReset)),
            _ => None,
        }
    }

    async fn delay(fault: Option<&Self>) {
        if let Some(Self::Slow(time)) = fault {
            tokio::time::sleep(*time).await;
        }
    }

    /// What this fault makes of an object's bytes.
    fn spoil(fault: Option<&Self>, bytes: Buffer) -> Buffer {
        let mut bytes = bytes.to_vec();
        match fault {
            Some(Self::Truncate(length) | Self::ShortRead(length)) => bytes.truncate(*length),
            Some(Self::FlipBit(at)) if *at < bytes.len() => bytes[*at] ^= 1,
            _ => {}
        }
        Buffer::from(bytes)
    }
}

/// The layer; see [`Faults::layer`].
#[derive(Clone, Debug)]
pub(crate) struct FaultLayer(Faults);

impl Layer for FaultLayer {
    fn apply_service(&self, inner: Servicer) -> Servicer {
        Arc::new(FaultService { faults: self.0.clone(), inner })
    }
}

#[derive(Debug)]
struct FaultService {
    faults: Faults,
    inner: Servicer,
}

impl Service for FaultService {
    type Reader = FaultReader;
    type Writer = FaultWriter;
    type Lister = FaultLister;
    type Deleter = FaultDeleter;
    type Copier = oio::Copier;
    type Composer = oio::Composer;

    fn info(&self) -> ServiceInfo {
        self.inner.info()
    }

    fn capability(&self) -> Capability {
        self.inner.capability()
    }

    async fn create_dir(&self, ctx: &OperationContext, path: &str, args: OpCreateDir) -> Result<RpCreateDir> {
        self.inner.create_dir(ctx, path, args).await
    }

    async fn stat(&self, ctx: &OperationContext, path: &str, args: OpStat) -> Result<RpStat> {
        let fault = self.faults.take(On::Look, path);
        Fault::delay(fault.as_ref()).await;
        if let Some(error) = fault.as_ref().and_then(Fault::error) {
            return Err(error);
        }
        let answer = self.inner.stat(ctx, path, args).await?;
        match fault {
            Some(Fault::Vanish) => Err(Error::new(ErrorKind::NotFound, "injected")),
            Some(Fault::Truncate(length)) => Ok(answer.map_metadata(|metadata| shortened(metadata, length))),
            _ => Ok(answer),
        }
    }

    fn read(&self, ctx: &OperationContext, path: &str, args: OpRead) -> Result<Self::Reader> {
        let fault = self.faults.take(On::Get, path);
        Ok(FaultReader { fault, inner: self.inner.read(ctx, path, args)? })
    }

    fn write(&self, ctx: &OperationContext, path: &str, args: OpWrite) -> Result<Self::Writer> {
        let fault = self.faults.take(On::Put, path);
        Ok(FaultWriter { fault, inner: self.inner.write(ctx, path, args)? })
    }

    fn delete(&self, ctx: &OperationContext) -> Result<Self::Deleter> {
        Ok(FaultDeleter { faults: self.faults.clone(), inner: self.inner.delete(ctx)? })
    }

    fn list(&self, ctx: &OperationContext, path: &str, args: OpList) -> Result<Self::Lister> {
        let fault = self.faults.take(On::List, path);
        Ok(FaultLister { fault, inner: self.inner.list(ctx, path, args)?, listed: 0 })
    }

    fn copy(&self, ctx: &OperationContext, from: &str, to: &str, args: OpCopy) -> Result<Self::Copier> {
        self.inner.copy(ctx, from, to, args)
    }

    fn compose(&self, ctx: &OperationContext, to: &str, args: OpCompose) -> Result<Self::Composer> {
        self.inner.compose(ctx, to, args)
    }

    async fn rename(&self, ctx: &OperationContext, from: &str, to: &str, args: OpRename) -> Result<RpRename> {
        self.inner.rename(ctx, from, to, args).await
    }

    async fn restore(&self, ctx: &OperationContext, path: &str, args: OpRestore) -> Result<RpRestore> {
        self.inner.restore(ctx, path, args).await
    }

    async fn presign(&self, ctx: &OperationContext, path: &str, args: OpPresign) -> Result<RpPresign> {
        self.inner.presign(ctx, path, args).await
    }
}

struct FaultReader {
    fault: Option<Fault>,
    inner: oio::Reader,
}

impl FaultReader {
    async fn read_spoiled(&self, range: BytesRange) -> Result<(RpRead, Buffer)> {
        let fault = self.fault.as_ref();
        Fault::delay(fault).await;
        if let Some(error) = fault.and_then(Fault::error) {
            return Err(error);
        }
        if fault == Some(&Fault::Vanish) {
            return Err(Error::new(ErrorKind::NotFound, "injected"));
        }
        let (answer, mut stream) = self.inner.open_dyn(range).await?;
        let bytes = Fault::spoil(fault, stream.read_all_dyn().await?);
        let answer = match (fault, answer.metadata()) {
            (Some(Fault::Truncate(length)), Some(metadata)) => RpRead::new(shortened(metadata.clone(), *length)),
            _ => answer,
        };
        Ok((answer, bytes))
    }
}

impl oio::Read for FaultReader {
    async fn open(&self, range: BytesRange) -> Result<(RpRead, Box<dyn oio::ReadStreamDyn>)> {
        let (answer, bytes) = self.read_spoiled(range).await?;
        Ok((answer, Box::new(bytes)))
    }

    async fn read(&self, range: BytesRange) -> Result<(RpRead, Buffer)> {
        self.read_spoiled(range).await
    }
}

/// Length of what is left when only so many bytes are.
fn shortened(metadata: Metadata, length: usize) -> Metadata {
    let length = metadata.content_length().min(length as u64);
    let mut builder = metadata.into_builder();
    builder.set_file(length);
    builder.build()
}

struct FaultWriter {
    fault: Option<Fault>,
    inner: oio::Writer,
}

impl FaultWriter {
    /// An empty object is closed without a write, so both come by here.
    async fn fail(&self) -> Result<()> {
        Fault::delay(self.fault.as_ref()).await;
        self.fault.as_ref().and_then(Fault::error).map_or(Ok(()), Err)
    }
}

impl oio::Write for FaultWriter {
    async fn write(&mut self, bytes: Buffer) -> Result<()> {
        self.fail().await?;
        self.inner.write_dyn(Fault::spoil(self.fault.as_ref(), bytes)).await
    }

    async fn close(&mut self) -> Result<Metadata> {
        self.fail().await?;
        if self.fault == Some(Fault::Vanish) {
            return Ok(opendal::MetadataBuilder::file(0).build());
        }
        self.inner.close_dyn().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort_dyn().await
    }
}

struct FaultLister {
    fault: Option<Fault>,
    inner: oio::Lister,
    listed: usize,
}

impl oio::List for FaultLister {
    async fn next(&mut self) -> Result<Option<oio::Entry>> {
        if self.listed == 0 {
            Fault::delay(self.fault.as_ref()).await;
        }
        if let Some(error) = self.fault.as_ref().and_then(Fault::error) {
            return Err(error);
        }
        match self.fault {
            Some(Fault::Vanish) => return Ok(None),
            Some(Fault::BreakAfter(entries)) if self.listed >= entries => {
                return Err(Error::new(ErrorKind::Unexpected, "injected, the listing broke off").set_temporary());
            }
            Some(Fault::LeaveOut(entry)) if self.listed == entry => {
                self.inner.next_dyn().await?;
            }
            _ => {}
        }
        self.listed += 1;
        self.inner.next_dyn().await
    }
}

struct FaultDeleter {
    faults: Faults,
    inner: oio::Deleter,
}

impl oio::Delete for FaultDeleter {
    async fn delete<'a>(&'a mut self, path: &'a str, args: OpDelete) -> Result<()> {
        let fault = self.faults.take(On::Remove, path);
        Fault::delay(fault.as_ref()).await;
        if let Some(error) = fault.as_ref().and_then(Fault::error) {
            return Err(error);
        }
        if fault == Some(Fault::Vanish) {
            return Ok(());
        }
        let deleting: BoxedFuture<'_, Result<()>> = self.inner.delete_dyn(path, args);
        deleting.await
    }

    async fn close(&mut self) -> Result<()> {
        self.inner.close_dyn().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt;
    use opendal::{Operator, services};

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(work)
    }

    fn store() -> (Faults, Operator) {
        let faults = Faults::new();
        let operator = Operator::new(services::Memory::default()).unwrap().layer(faults.layer());
        (faults, operator)
    }

    #[test]
    fn without_faults_the_layer_changes_nothing() {
        let (faults, operator) = store();
        run(async {
            operator.write("a/b", b"content".to_vec()).await.unwrap();
            assert_eq!(operator.read("a/b").await.unwrap().to_vec(), b"content");
            assert_eq!(operator.stat("a/b").await.unwrap().content_length(), 7);
            operator.delete("a/b").await.unwrap();
            assert_eq!(operator.read("a/b").await.unwrap_err().kind(), ErrorKind::NotFound);
        });
        assert_eq!([On::Put, On::Look, On::Remove].map(|on| faults.count(on)), [1, 1, 1]);
        assert_eq!(faults.count(On::Get), 2);
    }

    #[test]
    fn only_the_nth_fails_and_in_the_way_that_was_asked_for() {
        let (faults, operator) = store();
        faults.on(On::Put, Nth::At(2), Fault::Temporary);
        faults.on(On::Put, Nth::From(4), Fault::Full);
        faults.on(On::Remove, Nth::Path("b".to_owned()), Fault::Denied);
        run(async {
            operator.write("a", "1").await.unwrap();
            assert!(operator.write("a", "2").await.unwrap_err().is_temporary());
            operator.write("b", "3").await.unwrap();
            for _ in 0..2 {
                let error = operator.write("a", "4").await.unwrap_err();
                let source = std::error::Error::source(&error).unwrap().downcast_ref::<io::Error>().unwrap();
                assert_eq!(source.kind(), io::ErrorKind::StorageFull);
            }
            operator.delete("a").await.unwrap();
            assert_eq!(operator.delete("b").await.unwrap_err().kind(), ErrorKind::PermissionDenied);
            faults.clear();
            operator.write("a", "5").await.unwrap();
            faults.on(On::Any, Nth::From(2), Fault::Permanent);
            operator.stat("a").await.unwrap();
            operator.delete("b").await.unwrap_err();
            operator.write("a", "6").await.unwrap_err();
        });
        assert_eq!(faults.count(On::Any), 11);
    }

    #[test]
    fn bytes_are_spoiled_on_the_way_in_and_out() {
        let (faults, operator) = store();
        run(async {
            faults.on(On::Put, Nth::At(1), Fault::FlipBit(0));
            faults.on(On::Put, Nth::At(2), Fault::Truncate(2));
            faults.on(On::Put, Nth::At(3), Fault::Vanish);
            for name in ["flipped", "cut", "dropped"] {
                operator.write(name, b"0123".to_vec()).await.unwrap();
            }
            assert_eq!(operator.read("flipped").await.unwrap().to_vec(), b"1123");
            assert_eq!(operator.read("cut").await.unwrap().to_vec(), b"01");
            assert!(!operator.exists("dropped").await.unwrap());
            faults.on(On::Get, Nth::Path("flipped".to_owned()), Fault::Truncate(1));
            faults.on(On::Look, Nth::Path("flipped".to_owned()), Fault::Vanish);
            assert_eq!(operator.read("flipped").await.unwrap().to_vec(), b"1");
            assert!(!operator.exists("flipped").await.unwrap());
        });
    }

    #[test]
    fn a_listing_breaks_off_or_leaves_out_what_it_is_told() {
        let (faults, operator) = store();
        run(async {
            for name in ["a", "b", "c", "d"] {
                operator.write(name, name).await.unwrap();
            }
            faults.on(On::List, Nth::At(1), Fault::BreakAfter(2));
            faults.on(On::List, Nth::At(2), Fault::LeaveOut(1));
            faults.on(On::List, Nth::At(3), Fault::Vanish);
            let mut lister = operator.lister("/").await.unwrap();
            assert!(lister.try_next().await.unwrap().is_some());
            assert!(lister.try_next().await.unwrap().is_some());
            assert!(lister.try_next().await.unwrap_err().is_temporary());
            let mut names = Vec::new();
            for _ in 0..3 {
                names.push(operator.list("/").await.unwrap().len());
            }
            assert_eq!(names, [names[2] - 1, 0, names[2]]);
            assert!(names[2] >= 4);
        });
    }
}
