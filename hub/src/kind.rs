//! What a repository of the hub holds, and where the hub has such.

use hf_hub::RepoType;

/// The kind of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Model,
    DataSet,
}

impl Kind {
    /// In words.
    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::Model => "model",
            Kind::DataSet => "data set",
        }
    }

    /// Its segment of the API's addresses.
    pub(super) fn api(self) -> &'static str {
        match self {
            Kind::Model => "models",
            Kind::DataSet => "datasets",
        }
    }

    /// What stands before its name in the addresses of files and pages.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Kind::Model => "",
            Kind::DataSet => "datasets/",
        }
    }

    /// What needs no hub.
    pub(super) fn local(self) -> &'static str {
        match self {
            Kind::Model => "a model in a local folder needs none of them",
            Kind::DataSet => "rows in local files need none of them",
        }
    }

    /// As `hf-hub` names it, which knows the folders of the cache.
    pub(super) fn repo_type(self) -> RepoType {
        match self {
            Kind::Model => RepoType::Model,
            Kind::DataSet => RepoType::Dataset,
        }
    }
}
