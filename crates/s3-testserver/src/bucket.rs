//! The objects in memory, and the calls of the protocol on them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use md5::{Digest, Md5};
use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, Error,
    GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput, ListObjectsV2Input, ListObjectsV2Output,
    Object, PutObjectInput, PutObjectOutput, StreamingBlob, Timestamp,
};
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};

use crate::{BUCKET, ServerOptions};

/// The bucket. Clones share everything.
#[derive(Clone)]
pub(crate) struct Bucket {
    options: Arc<ServerOptions>,
    objects: Arc<Mutex<BTreeMap<String, Bytes>>>,
    pub(crate) garble_puts: Arc<AtomicUsize>,
}

impl Bucket {
    pub(crate) fn new(options: ServerOptions) -> Bucket {
        Bucket { options: Arc::new(options), objects: Arc::default(), garble_puts: Arc::default() }
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }

    pub(crate) fn plant(&self, key: &str, body: &[u8]) {
        self.objects.lock().unwrap().insert(key.to_owned(), Bytes::copy_from_slice(body));
    }

    fn object(&self, bucket: &str, key: &str) -> S3Result<Bytes> {
        check(bucket)?;
        self.objects.lock().unwrap().get(key).cloned().ok_or_else(|| s3_error!(NoSuchKey))
    }

    fn tag(&self, body: &[u8]) -> ETag {
        let mut tag = String::new();
        for byte in Md5::digest(body) {
            let _ = write!(tag, "{:02x}", if self.options.has_md5_tags { byte } else { !byte });
        }
        ETag::Strong(tag)
    }

    fn remove(&self, key: &str) -> S3Result<()> {
        if self.options.locked.as_ref().is_some_and(|part| key.contains(part)) {
            return Err(s3_error!(AccessDenied, "the object is locked"));
        }
        self.objects.lock().unwrap().remove(key);
        Ok(())
    }
}

fn check(bucket: &str) -> S3Result<()> {
    if bucket == BUCKET { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

fn length(body: &[u8]) -> i64 {
    i64::try_from(body.len()).unwrap()
}

#[async_trait::async_trait]
impl S3 for Bucket {
    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        check(&input.bucket)?;
        let mut body = BytesMut::new();
        let mut stream = input.body.ok_or_else(|| s3_error!(IncompleteBody))?;
        while let Some(piece) = stream.next().await {
            body.extend_from_slice(&piece.map_err(|_| s3_error!(IncompleteBody))?);
        }
        if input.content_length.is_some_and(|announced| announced != length(&body)) {
            return Err(s3_error!(IncompleteBody));
        }
        let left = self.garble_puts.load(Ordering::SeqCst);
        if left > 0 {
            self.garble_puts.store(left - 1, Ordering::SeqCst);
            body.extend_from_slice(b"!");
        }
        let e_tag = Some(self.tag(&body));
        self.objects.lock().unwrap().insert(input.key, body.freeze());
        Ok(S3Response::new(PutObjectOutput { e_tag, ..PutObjectOutput::default() }))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let body = self.object(&input.bucket, &input.key)?;
        let mut output =
            GetObjectOutput { e_tag: Some(self.tag(&body)), last_modified: Some(now()), ..GetObjectOutput::default() };
        let part = match input.range {
            None => body,
            Some(range) => {
                let size_bytes = body.len() as u64;
                let range = range.check(size_bytes)?;
                if range.is_empty() {
                    return Err(s3_error!(InvalidRange));
                }
                output.content_range = Some(format!("bytes {}-{}/{size_bytes}", range.start, range.end - 1));
                body.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap())
            }
        };
        output.content_length = Some(length(&part));
        output.body = Some(StreamingBlob::from(Body::from(part)));
        Ok(S3Response::new(output))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let body = self.object(&request.input.bucket, &request.input.key)?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(length(&body)),
            e_tag: Some(self.tag(&body)),
            last_modified: Some(now()),
            ..HeadObjectOutput::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        check(&input.bucket)?;
        let prefix = input.prefix.unwrap_or_default();
        let after = input.continuation_token.or(input.start_after).unwrap_or_default();
        let objects = self.objects.lock().unwrap();
        let matching = objects.iter().filter(|(key, _)| key.starts_with(&prefix) && key.as_str() > after.as_str());
        let mut found: Vec<Object> = matching
            .take(self.options.page_size + 1)
            .map(|(key, body)| Object {
                key: Some(key.clone()),
                size: Some(length(body)),
                last_modified: Some(now()),
                e_tag: Some(self.tag(body)),
                ..Object::default()
            })
            .collect();
        let is_truncated = found.len() > self.options.page_size;
        found.truncate(self.options.page_size);
        let last = found.last().and_then(|object| object.key.clone());
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            key_count: i32::try_from(found.len()).ok(),
            is_truncated: Some(is_truncated),
            next_continuation_token: last.filter(|_| is_truncated),
            contents: Some(found),
            ..ListObjectsV2Output::default()
        }))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        check(&request.input.bucket)?;
        self.remove(&request.input.key)?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        check(&request.input.bucket)?;
        if !self.options.deletes_many {
            return Err(s3_error!(NotImplemented));
        }
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for object in request.input.delete.objects {
            match self.remove(&object.key) {
                Ok(()) => deleted.push(DeletedObject { key: Some(object.key), ..DeletedObject::default() }),
                Err(error) => errors.push(Error {
                    code: Some(error.code().as_str().to_owned()),
                    key: Some(object.key),
                    message: error.message().map(str::to_owned),
                    ..Error::default()
                }),
            }
        }
        let output = DeleteObjectsOutput { deleted: Some(deleted), errors: Some(errors), ..Default::default() };
        Ok(S3Response::new(output))
    }
}
