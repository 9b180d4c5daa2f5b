//! A program that is sent as a form (`multipart/form-data`, RFC 7578): its field `file` is written to a temporary file
//! as it comes, so that a program of any size takes no memory, and its version is read from there.

mod version_info;

use std::{
    fs::File,
    io::{self, Seek},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, BodyDataStream},
    extract::{FromRequest, Request},
};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{
    StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use kanade_model::Version;
use kanade_ports::Measure;
use multer::{Constraints, Field, Multipart, SizeLimit};
use tokio::{io::AsyncWriteExt, task::spawn_blocking, time};
use tokio_util::io::ReaderStream;

use crate::{App, problem::Problem};

/// What a form may take besides its file, in bytes.
const ENVELOPE: u64 = 64 << 10;
/// The longest value of a field that is not the file, in bytes.
const LONGEST_VALUE: u64 = 1024;
/// How much of the program is read at once, in bytes.
const PIECE: usize = 128 << 10;

/// A program with its version.
pub(crate) struct Upload {
    pub(crate) version: Version,
    pub(crate) program: kanade_core::Upload,
}

impl FromRequest<App> for Upload {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let limit = app.settings.upload_limit;
        let boundary = request
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| multer::parse_boundary(value.to_str().ok()?).ok())
            .ok_or_else(unsupported)?;
        let announced = request
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        // Half, as for every body: a sender that stands still is told so before the request is given up.
        let within = app.settings.request_timeout / 2;
        if announced.is_some_and(|length| length > limit.saturating_add(ENVELOPE)) {
            discard(request.into_body(), limit, within).await;
            return Err(too_large(limit));
        }
        let sizes = SizeLimit::new()
            .whole_stream(limit.saturating_add(ENVELOPE))
            .per_field(LONGEST_VALUE)
            .for_field("file", limit);
        let body = OneByOne::new(request.into_body());
        let form = Form {
            fields: Multipart::with_constraints(body, boundary, Constraints::new().size_limit(sizes)),
            limit,
            within,
        };
        let Content { program, version } = form.read(app).await?;
        let program = program.ok_or_else(|| {
            let detail = "file: the form has no field of this name, which holds the program";
            Problem::bad_request(detail).with_field("file")
        })?;
        if program.measure.size() == 0 {
            return Err(Problem::bad_request("file: the program is empty").with_field("file"));
        }
        program.with_version(version).await
    }
}

/// A form that is being read.
struct Form {
    fields: Multipart<'static>,
    limit: u64,
    within: Duration,
}

/// What a form holds.
#[derive(Default)]
struct Content {
    program: Option<Spooled>,
    version: Option<Version>,
}

impl Form {
    async fn read(mut self, app: &App) -> Result<Content, Problem> {
        let mut content = Content::default();
        while let Some(mut field) = self.next().await? {
            match field.name().unwrap_or_default() {
                "file" if content.program.is_some() => return Err(twice("file")),
                "version" if content.version.is_some() => return Err(twice("version")),
                "file" => {
                    let mut spooled = Spooled::new(app).await?;
                    while let Some(bytes) = self.more(&mut field).await? {
                        spooled.write(&bytes).await?;
                    }
                    content.program = Some(spooled);
                }
                name => {
                    let is_version = name == "version";
                    let mut value = Vec::new();
                    while let Some(bytes) = self.more(&mut field).await? {
                        value.extend_from_slice(&bytes);
                    }
                    if is_version {
                        content.version = version(&value)?;
                    }
                }
            }
        }
        Ok(content)
    }

    async fn next(&mut self) -> Result<Option<Field<'static>>, Problem> {
        match time::timeout(self.within, self.fields.next_field()).await {
            Ok(field) => field.map_err(|error| misread(&error, self.limit)),
            Err(_) => Err(too_slow(self.within)),
        }
    }

    async fn more(&self, field: &mut Field<'static>) -> Result<Option<Bytes>, Problem> {
        match time::timeout(self.within, field.chunk()).await {
            Ok(bytes) => bytes.map_err(|error| misread(&error, self.limit)),
            Err(_) => Err(too_slow(self.within)),
        }
    }
}

/// Takes in a body that is not wanted, within reason: most senders do not listen before they have sent everything, and
/// would only see that the connection breaks.
async fn discard(body: Body, limit: u64, within: Duration) {
    let (mut body, mut left) = (body.into_data_stream(), limit.saturating_mul(4));
    while let Ok(Some(Ok(bytes))) = time::timeout(within, body.next()).await {
        left = left.saturating_sub(bytes.len() as u64);
        if left == 0 {
            return;
        }
    }
}

/// A program in a temporary file without a name, which goes away with its last handle, also at a crash.
struct Spooled {
    file: tokio::fs::File,
    measure: Measure,
}

impl Spooled {
    async fn new(app: &App) -> Result<Self, Problem> {
        let folder = app.settings.spool.clone();
        let made = move || match folder {
            Some(folder) => std::fs::create_dir_all(&folder).and_then(|()| tempfile::tempfile_in(folder)),
            None => tempfile::tempfile(),
        };
        let file = on_disk(made).await?;
        Ok(Self {
            file: tokio::fs::File::from_std(file),
            measure: Measure::default(),
        })
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.measure.take(bytes);
        self.file
            .write_all(bytes)
            .await
            .map_err(|error| unwritable(&error))
    }

    /// The whole program, under the version that is given or that it tells of itself.
    async fn with_version(mut self, given: Option<Version>) -> Result<Upload, Problem> {
        self.file.flush().await.map_err(|error| unwritable(&error))?;
        let file = self.file.into_std().await;
        let (file, told) = on_disk(move || {
            let told = version_info::version_of(&file);
            rewound(file).map(|file| (file, told))
        })
        .await?;
        let size = self.measure.size();
        let program = ReaderStream::with_capacity(tokio::fs::File::from_std(file), PIECE);
        Ok(Upload {
            version: settled(given, told)?,
            program: kanade_core::Upload {
                size,
                digest: self.measure.digest(),
                program: program.boxed(),
            },
        })
    }
}

/// The version of a program, as its sender gives it and as it tells itself.
fn settled(given: Option<Version>, told: Option<Version>) -> Result<Version, Problem> {
    let problem = |detail: String| Problem::bad_request(format!("version: {detail}")).with_field("version");
    match (given, told) {
        (Some(given), Some(told)) if given != told => Err(problem(format!(
            "the program says that it is `{told}`, not `{given}`; leave the field out"
        ))),
        (Some(version), _) | (None, Some(version)) => Ok(version),
        (None, None) => Err(problem(
            "the program does not say which it is, as Windows programs do in VERSIONINFO; give it as `version`"
                .to_owned(),
        )),
    }
}

/// Does something with a file on a thread that may wait for the disk.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Problem> {
    let done = spawn_blocking(work)
        .await
        .unwrap_or_else(|ended| Err(io::Error::other(ended)));
    done.map_err(|error| unwritable(&error))
}

fn rewound(mut file: File) -> io::Result<File> {
    file.rewind()?;
    Ok(file)
}

fn version(value: &[u8]) -> Result<Option<Version>, Problem> {
    let text = String::from_utf8_lossy(value);
    // An empty input of a form in a browser is sent too.
    match text.trim() {
        "" => Ok(None),
        text => {
            let version: Version = text.parse()?;
            version.check()?;
            Ok(Some(version))
        }
    }
}

fn twice(field: &str) -> Problem {
    Problem::bad_request(format!("{field}: the field is there twice")).with_field(field)
}

fn unsupported() -> Problem {
    let detail = "the `Content-Type` of the body must be `multipart/form-data` with a boundary";
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
}

fn too_large(limit: u64) -> Problem {
    let limit = match limit {
        mib if mib >= 1 << 20 => format!("{} MiB", mib >> 20),
        bytes => format!("{bytes} bytes"),
    };
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the program is larger than {limit}; the server's configuration says how large one may be"),
    )
}

fn too_slow(within: Duration) -> Problem {
    let detail = format!("nothing more of the body came within {}s", within.as_secs_f32());
    Problem::new(StatusCode::REQUEST_TIMEOUT, detail)
}

fn unwritable(error: &io::Error) -> Problem {
    tracing::warn!(%error, "cannot write a program to a temporary file");
    Problem::try_again("the server cannot write the program to its disk; its log says why")
}

fn misread(error: &multer::Error, limit: u64) -> Problem {
    match error {
        multer::Error::StreamSizeExceeded { .. } => too_large(limit),
        multer::Error::FieldSizeExceeded { field_name, .. } => match field_name.as_deref() {
            Some("file") => too_large(limit),
            other => {
                let name = other.unwrap_or_default();
                let detail = format!("{name}: {LONGEST_VALUE} bytes at most are wanted");
                Problem::bad_request(detail).with_field(name)
            }
        },
        multer::Error::StreamReadFailed(_)
        | multer::Error::IncompleteStream
        | multer::Error::IncompleteFieldData { .. }
        | multer::Error::IncompleteHeaders => Problem::bad_request("the body broke off before its end"),
        other => Problem::bad_request(format!("the body is not a form: {other}")),
    }
}

/// The body, piece by piece: its reader takes in all that is there at once, however much, until it is told to wait.
struct OneByOne {
    body: BodyDataStream,
    pause: bool,
}

impl OneByOne {
    fn new(body: Body) -> Self {
        Self {
            body: body.into_data_stream(),
            pause: false,
        }
    }
}

impl Stream for OneByOne {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.pause) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = self.body.poll_next_unpin(context);
        self.pause = matches!(next, Poll::Ready(Some(_)));
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_large_program_is_in_memory_in_pieces_only() {
        const PIECE: usize = 64 << 10;
        let head = "--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n";
        let pieces = std::iter::once(Bytes::from(head))
            .chain(std::iter::repeat_n(Bytes::from_static(&[7; PIECE]), 100))
            .chain([Bytes::from("\r\n--b--\r\n")]);
        // All of it is there at once.
        let body = Body::from_stream(futures::stream::iter(pieces.map(Ok::<_, io::Error>)));
        let mut form = Multipart::new(OneByOne::new(body), "b");
        let mut field = form.next_field().await.unwrap().unwrap();
        let (mut size, mut largest) = (0, 0);
        while let Some(bytes) = field.chunk().await.unwrap() {
            size += bytes.len();
            largest = largest.max(bytes.len());
        }
        assert_eq!(size, 100 * PIECE);
        assert!(largest <= 3 * PIECE, "{largest} bytes at once");
    }

    #[test]
    fn a_version_is_given_or_told_and_never_both_ways() {
        let version = |text: &str| Some(text.parse::<Version>().unwrap());
        let detail = |given, told| settled(given, told).unwrap_err().detail().to_owned();
        assert_eq!(settled(version("1"), None).unwrap().as_str(), "1");
        assert_eq!(settled(None, version("2")).unwrap().as_str(), "2");
        assert_eq!(settled(version("2"), version("2")).unwrap().as_str(), "2");
        assert!(detail(version("1"), version("2")).contains("`2`, not `1`"));
        assert!(detail(None, None).contains("VERSIONINFO"));
    }
}
