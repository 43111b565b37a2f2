use super::*;

fn pairs(query: &str) -> Vec<(String, String)> {
    crate::path::query(query)
}

async fn read(target: LogTarget, query: &str) -> String {
    let options = LogOptions::from_query(&pairs(query)).unwrap();
    let body = respond(target, options).unwrap().into_body();
    String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

fn target(folder: &Path) -> (LogTarget, watch::Sender<bool>) {
    let (send, ended) = watch::channel(false);
    (LogTarget { file: folder.join("0.log"), ended }, send)
}

const OLD: &str = "2026-01-01T00:00:00.000000001Z stdout F one\n";
const NEW: &str = "2026-01-01T00:00:01Z stderr F two\n2026-01-01T00:00:02Z stdout P thr\n\
                   2026-01-01T00:00:02Z stdout F ee\n2026-01-01T00:00:03Z stdout F four\nhalf a li";

#[tokio::test]
async fn lines_are_joined_chosen_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("0.log.20260101"), OLD).unwrap();
    std::fs::write(folder.path().join("0.log"), NEW).unwrap();
    let (target, _ended) = target(folder.path());
    for (query, want) in [
        ("", "one\ntwo\nthree\nfour\n"),
        ("tailLines=2", "three\nfour\n"),
        ("tailLines=4", "one\ntwo\nthree\nfour\n"),
        ("tailLines=0", ""),
        ("limitBytes=5", "one\nt"),
        ("stream=Stderr", "two\n"),
        ("sinceTime=2026-01-01T00:00:02Z", "three\nfour\n"),
        ("timestamps=true&tailLines=1", "2026-01-01T00:00:03Z four\n"),
        ("sinceSeconds=1", ""),
    ] {
        assert_eq!(read(target.clone(), query).await, want, "{query}");
    }
    assert!(LogOptions::from_query(&pairs("tailLines=x")).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn following_goes_on_over_a_rotation_and_ends_with_the_container() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.log");
    std::fs::write(&path, "2026-01-01T00:00:00Z stdout F one\n").unwrap();
    let (target, ended) = target(folder.path());
    let options = LogOptions::from_query(&pairs("follow=true")).unwrap();
    let mut body = respond(target, options).unwrap().into_body();
    let mut next = async || {
        let frame = body.frame().await;
        frame.map(|f| String::from_utf8(f.unwrap().into_data().unwrap().to_vec()).unwrap())
    };
    assert_eq!(next().await.as_deref(), Some("one\n"));
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"2026-01-01T00:00:01Z stdout F two\n").unwrap();
    assert_eq!(next().await.as_deref(), Some("two\n"));
    std::fs::rename(&path, folder.path().join("0.log.2026")).unwrap();
    std::fs::write(&path, "2026-01-01T00:00:02Z stdout F three\n").unwrap();
    assert_eq!(next().await.as_deref(), Some("three\n"));
    ended.send(true).unwrap();
    assert_eq!(next().await, None);
}
