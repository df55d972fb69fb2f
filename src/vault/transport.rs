//! The way to an S3 store, with two checks that OpenDAL leaves out: whatever is not a listing must not be read as an
//! empty one, and an answer of another server than the one that was asked counts for nothing. A proxy's login page, a
//! page that says that a store is being mended, and an error with the status of success all come as status 200.

use crate::base::limits::LIST_PAGE_BYTES_MAX;
use http::{Method, Request, Response};
use opendal::raw::oio::ReadStream;
use opendal::{
    Buffer, Error, ErrorKind, HttpBody, HttpRedirect, HttpTransport, HttpTransporter, OperationContext, Result,
};

/// How the error begins that says that a request was sent on to another address.
pub(super) const SENT_ON: &str = "the endpoint sends requests on to another address";

/// How the error begins that says that something else came than a listing.
pub(super) const NO_LISTING: &str = "what came with the status of success is not a listing";

/// What a listing's answer has in it, whatever else.
const LISTING: &[u8] = b"<ListBucketResult";

/// The checks, around the process's HTTP client.
struct Checked(HttpTransporter);

/// A context for operators whose answers are checked.
pub(super) fn checked() -> OperationContext {
    OperationContext::new().with_http_transport(HttpTransporter::new(Checked(HttpTransporter::default())))
}

impl HttpTransport for Checked {
    async fn fetch(&self, request: Request<Buffer>) -> Result<Response<HttpBody>> {
        let is_listing = request.method() == Method::GET
            && request.uri().query().is_some_and(|query| query.split('&').any(|part| part.starts_with("list-type=")));
        let answer = self.0.fetch(request).await?;
        if answer.extensions().get::<HttpRedirect>().is_some() {
            return Err(Error::new(ErrorKind::Unexpected, format!("{SENT_ON}, and its answer counts for nothing")));
        }
        if is_listing && answer.status().is_success() { listing(answer).await } else { Ok(answer) }
    }
}

/// Reads a page of a listing whole and hands it on when it is one.
async fn listing(answer: Response<HttpBody>) -> Result<Response<HttpBody>> {
    let (parts, mut body) = answer.into_parts();
    let mut pieces: Vec<Buffer> = Vec::new();
    let mut length = 0;
    loop {
        let piece = body.read().await?;
        if piece.is_empty() {
            break;
        }
        length += piece.len();
        if length > LIST_PAGE_BYTES_MAX {
            let said = format!("a page of a listing has more than {LIST_PAGE_BYTES_MAX} bytes");
            return Err(Error::new(ErrorKind::Unexpected, said));
        }
        pieces.push(piece);
    }
    let page: Buffer = pieces.into_iter().flatten().collect();
    let bytes = page.to_bytes();
    if !bytes.windows(LISTING.len()).any(|window| window == LISTING) {
        let said = format!("{NO_LISTING}: it broke off, or something else than the store answered");
        return Err(Error::new(ErrorKind::Unexpected, said).set_temporary());
    }
    Ok(Response::from_parts(parts, HttpBody::new(futures_util::stream::iter([Ok(page)]), None)))
}
