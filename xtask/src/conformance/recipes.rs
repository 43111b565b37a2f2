//! What is in each image of the suite: facts, by the image's name without host and tag.
//!
//! The programs are upstream's own, compiled by `build`, or Debian's packages of the same; three
//! tiny ones are this project's (`conformance/pause`, `conformance/setuid`, `conformance/sh`).

/// One image.
#[derive(Debug, Default)]
pub(crate) struct Recipe {
    /// Programs of this machine, copied with the libraries that they need.
    pub(crate) host_programs: &'static [&'static str],
    /// Programs from `build`, and where they go.
    pub(crate) built: &'static [(&'static str, &'static str)],
    /// Files from upstream's modules: module, path in it, where it goes.
    pub(crate) module_files: &'static [(&'static str, &'static str, &'static str)],
    pub(crate) files: &'static [(&'static str, &'static str)],
    pub(crate) links: &'static [(&'static str, &'static str)],
    pub(crate) folders: &'static [&'static str],
    /// Folders of this machine, copied whole.
    pub(crate) host_folders: &'static [&'static str],
    /// Files that run as their owner.
    pub(crate) setuid: &'static [&'static str],
    pub(crate) entrypoint: &'static [&'static str],
    pub(crate) cmd: &'static [&'static str],
    pub(crate) user: &'static str,
    /// Without a shell and its tools.
    pub(crate) bare: bool,
}

/// Debian packages that the images take programs from, and how each is known to be there.
pub(crate) const PACKAGES: [(&str, &str); 12] = [
    ("busybox-static", "/bin/busybox"),
    ("bash", "/bin/bash"),
    ("bind9-dnsutils", "/usr/bin/dig"),
    ("curl", "/usr/bin/curl"),
    ("netcat-openbsd", "/bin/nc.openbsd"),
    ("iproute2", "/bin/ip"),
    ("iperf", "/usr/bin/iperf"),
    ("socat", "/usr/bin/socat"),
    ("nginx-light", "/usr/sbin/nginx"),
    ("etcd-server", "/usr/bin/etcd"),
    ("libc-bin", "/usr/bin/getent"),
    ("util-linux", "/usr/bin/ipcs"),
];

/// What every image with a shell has.
pub(crate) const COMMON_FILES: [(&str, &str); 3] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n\
         user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh\n",
    ),
    (
        "etc/group",
        "root:x:0:\nnogroup:x:65534:\nuser-defined-in-image:x:1000:\n\
         group-defined-in-image:x:50000:user-defined-in-image\n",
    ),
    ("etc/nsswitch.conf", "hosts: files dns\n"),
];

const NETWORK_TOOLS: &[&str] = &[
    "/usr/bin/dig",
    "/usr/bin/nslookup",
    "/usr/bin/getent",
    "/usr/bin/curl",
    "/bin/nc.openbsd",
    "/bin/ip",
    "/bin/ss",
    "/usr/bin/iperf",
    "/usr/bin/socat",
];

const NGINX: &str = "daemon off;
user root;
error_log /dev/stderr;
pid /tmp/nginx.pid;
events {}
http {
    access_log off;
    default_type text/html;
    client_body_temp_path /tmp/nginx-body;
    proxy_temp_path /tmp/nginx-proxy;
    fastcgi_temp_path /tmp/nginx-fastcgi;
    uwsgi_temp_path /tmp/nginx-uwsgi;
    scgi_temp_path /tmp/nginx-scgi;
    server { listen 80; location / { root /usr/share/nginx/html; index index.html; } }
}
";

/// The recipe of an image, or `None` for one that no conformance test runs.
pub(crate) fn recipe(name: &str) -> Option<Recipe> {
    Some(match name {
        "agnhost" => agnhost(),
        "busybox" => Recipe { cmd: &["sh"], ..Recipe::default() },
        "ipc-utils" => {
            Recipe { host_programs: &["/usr/bin/ipcs"], cmd: &["sh"], ..Recipe::default() }
        }
        "nonroot" => Recipe { user: "1234", cmd: &["sh"], ..Recipe::default() },
        "pause" => Recipe {
            built: &[("pause", "pause")],
            entrypoint: &["/pause"],
            bare: true,
            ..Recipe::default()
        },
        "nonewprivs" => Recipe {
            built: &[("setuid", "usr/local/bin/nnp")],
            setuid: &["usr/local/bin/nnp"],
            cmd: &["nnp"],
            ..Recipe::default()
        },
        "nginx" => Recipe {
            host_programs: &["/usr/sbin/nginx"],
            host_folders: &["/usr/share/nginx/html"],
            files: &[
                ("etc/nginx/nginx.conf", NGINX),
                ("usr/share/nginx/html/index.html", "<h1>It works!</h1>\n"),
            ],
            folders: &["var/log/nginx", "var/lib/nginx"],
            entrypoint: &["nginx"],
            ..Recipe::default()
        },
        "nautilus" => pet("nautilus"),
        "kitten" => pet("kitten"),
        "glibc-dns-testing" => Recipe {
            host_programs: &[
                "/usr/bin/dig",
                "/usr/bin/nslookup",
                "/usr/bin/getent",
                "/bin/hostname",
            ],
            cmd: &["bash"],
            ..Recipe::default()
        },
        "sample-apiserver" => Recipe {
            built: &[("sample-apiserver", "sample-apiserver")],
            entrypoint: &["/sample-apiserver"],
            ..Recipe::default()
        },
        "etcd" => Recipe {
            host_programs: &["/usr/bin/etcd"],
            links: &[("../../bin/etcd", "usr/local/bin/etcd")],
            cmd: &["etcd"],
            ..Recipe::default()
        },
        _ => return None,
    })
}

fn agnhost() -> Recipe {
    Recipe {
        host_programs: NETWORK_TOOLS,
        built: &[("agnhost", "agnhost")],
        module_files: &[
            ("k8s.io/kubernetes", "test/images/agnhost/porter/localhost.crt", "localhost.crt"),
            ("k8s.io/kubernetes", "test/images/agnhost/porter/localhost.key", "localhost.key"),
        ],
        links: &[
            ("agnhost", "agnhost-2"),
            ("nc.openbsd", "bin/nc"),
            ("../../bin/nc.openbsd", "usr/bin/nc"),
        ],
        folders: &["uploads", "home/user-defined-in-image"],
        entrypoint: &["/agnhost"],
        cmd: &["pause"],
        ..Recipe::default()
    }
}

/// An image that serves its own name as a picture's.
fn pet(name: &str) -> Recipe {
    let files: &'static [(&'static str, &'static str)] = match name {
        "kitten" => &[
            ("data.json", "{\"image\": \"kitten.jpg\"}\n"),
            ("etc/os-release", "PRETTY_NAME=\"stands in for Alpine Linux\"\n"),
        ],
        _ => &[("data.json", "{\"image\": \"nautilus.jpg\"}\n")],
    };
    Recipe { files, cmd: &["test-webserver"], ..agnhost() }
}
