//! The SDK's client, as this store needs it.

use aws_config::BehaviorVersion;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::options::{S3ChecksumMode, S3Options};
use crate::StoreError;

/// The region of requests where nobody says one: servers other than AWS mostly take this.
const REGION: &str = "us-east-1";

/// Builds a client. It speaks to nobody yet.
pub(super) async fn build(options: &S3Options) -> Result<Client, StoreError> {
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if let Some(keys) = &options.credentials {
        let keys = Credentials::new(&keys.access_key_id, &keys.secret_access_key, None, None, "configuration");
        loader = loader.credentials_provider(keys);
    }
    // Servers other than AWS are not asked for through the metadata of an instance, which takes a second to fail.
    let region = options.region.clone().or_else(|| options.endpoint.as_ref().and_then(|_| environment_region()));
    if let Some(region) = region {
        loader = loader.region(Region::new(region));
    }
    if let Some(http) = http_client(options).await? {
        loader = loader.http_client(http);
    }
    let shared = loader.load().await;
    let checksums = options.checksums == S3ChecksumMode::WhenSupported;
    let mut config = aws_sdk_s3::config::Builder::from(&shared)
        .force_path_style(options.path_style)
        .retry_config(RetryConfig::standard().with_max_attempts(options.attempts_max))
        .timeout_config(timeouts(options))
        // Bodies have bounds of their own; the SDK's also strikes while a server works silently on what it was sent.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .request_checksum_calculation(match checksums {
            true => RequestChecksumCalculation::WhenSupported,
            false => RequestChecksumCalculation::WhenRequired,
        })
        // Every block is checked by its own checksum.
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(endpoint) = &options.endpoint {
        config = config.endpoint_url(endpoint);
    }
    if shared.region().is_none() {
        config = config.region(Region::new(REGION));
    }
    Ok(Client::from_conf(config.build()))
}

/// The region that the environment names, or the usual one.
fn environment_region() -> Option<String> {
    let named = ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| std::env::var(name).ok());
    named.filter(|name| !name.is_empty()).or_else(|| Some(REGION.to_owned()))
}

fn timeouts(options: &S3Options) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(options.connect_timeout)
        .operation_attempt_timeout(options.attempt_timeout)
        .operation_timeout(options.request_timeout)
        .build()
}

/// A client of HTTP that trusts more than the system does; `None` where the SDK's own will do.
async fn http_client(options: &S3Options) -> Result<Option<aws_sdk_s3::config::SharedHttpClient>, StoreError> {
    let Some(file) = &options.ca_file else { return Ok(None) };
    let pem = tokio::fs::read(file)
        .await
        .map_err(|e| StoreError::Other(format!("the certificates in {} cannot be read: {e}", file.display())))?;
    check_certificates(&pem)
        .map_err(|e| StoreError::Other(format!("{} has no certificates in PEM: {e}", file.display())))?;
    let trust = TrustStore::default().with_pem_certificate(pem);
    let context = TlsContext::builder()
        .with_trust_store(trust)
        .build()
        .map_err(|e| StoreError::Other(format!("the certificates in {} cannot be used: {e}", file.display())))?;
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(context)
        .build_https();
    Ok(Some(http))
}

/// The SDK reads certificates with its first connection, and panics over what is none.
fn check_certificates(pem: &[u8]) -> Result<(), String> {
    let mut found = false;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        certificate.map_err(|e| e.to_string())?;
        found = true;
    }
    if found { Ok(()) } else { Err("there is none".into()) }
}
