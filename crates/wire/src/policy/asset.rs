//! Files: MRP #assets.

use crate::app_data::MediaType;
use crate::codec::{Text, open_enum, wire_struct};

open_enum! {
    /// `AssetUploadLocation`
    pub struct AssetUploadLocation(u8) {
        /// Anywhere.
        UNSPECIFIED = 0 "unspecified",
        /// At one's own provider, as is recommended.
        LOCAL_PROVIDER = 1 "localProvider",
        /// At the hub.
        HUB = 2 "hub",
    }
}

wire_struct! {
    /// `ProviderAssetUploadDomains`
    pub struct ProviderAssetUploadDomains {
        /// Whose users.
        pub provider: Text,
        /// Where their files lie.
        pub asset_upload_destinations: Vec<Text>,
    }
}

open_enum! {
    /// `DownloadPrivacyType`
    pub struct DownloadPrivacyType(u8) {
        /// From where it lies.
        DIRECT = 0 "direct",
        /// Through the hub.
        HUB_PROXY = 1 "hubProxy",
        /// Through two servers, neither of which knows both ends.
        OHTTP = 2 "ohttp",
    }
}

wire_struct! {
    /// `DownloadPrivacy`
    pub struct DownloadPrivacy {
        /// Ways that are allowed.
        pub allowed_download_types: Vec<DownloadPrivacyType>,
        /// Ways that are not.
        pub forbidden_download_types: Vec<DownloadPrivacyType>,
        /// The usual way.
        pub default_download_type: DownloadPrivacyType,
    }
}

wire_struct! {
    /// `AssetPolicy`: the data of the component `asset_policy`. Sizes are in bytes.
    pub struct AssetPolicy {
        /// Where to.
        pub asset_upload_location: AssetUploadLocation,
        /// By provider.
        pub upload_domains: Vec<ProviderAssetUploadDomains>,
        /// How files are fetched.
        pub download_privacy: DownloadPrivacy,
        /// Of a picture.
        pub max_image: u64,
        /// Of a sound.
        pub max_audio: u64,
        /// Of a film.
        pub max_video: u64,
        /// Of anything else.
        pub max_attachment: u64,
        /// Not these.
        pub forbidden_media_types: Vec<MediaType>,
        /// Only these, if it is there. The draft writes `optional<MediaType> permitted_media_types<V>`, and its text
        /// has the list as a whole present or not.
        pub permitted_media_types: Option<Vec<MediaType>>,
    }
}
