//! The storage contract, kept by both databases: see `ringback_testkit::conformance`.

use ringback_testkit::conformance_cases;

macro_rules! on_postgres_and_sqlite {
    ($($file:ident { $($case:ident)* })*) => {
        #[cfg(feature = "postgres")]
        mod postgres {
            $(mod $file {
                $(#[tokio::test]
                async fn $case() {
                    let store = ringback_testkit::fresh_postgres().await;
                    ringback_testkit::conformance::$file::$case(&store).await;
                })*
            })*
        }

        #[cfg(feature = "sqlite")]
        mod sqlite {
            $(mod $file {
                $(#[tokio::test]
                async fn $case() {
                    let store = ringback_testkit::fresh_sqlite().await;
                    ringback_testkit::conformance::$file::$case(&store).await;
                })*
            })*
        }

        const LISTED: &[(&str, &[&str])] =
            &[$((stringify!($file), &[$(stringify!($case)),*])),*];
    };
}

conformance_cases!(on_postgres_and_sqlite);

#[test]
fn every_case_that_is_written_is_run() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/conformance");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_stem().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let written: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("pub async fn ")?.split('(').next())
            .collect();
        let listed = LISTED.iter().find(|(name, _)| *name == file);
        assert_eq!(
            listed.map_or(&[][..], |(_, cases)| cases),
            written,
            "{file}"
        );
    }
}
