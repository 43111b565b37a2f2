//! `lookup` and `nslookup`: what DNS says of a name.
use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::resolver::{self, Config};
use crate::common::{Done, Fault, Options, out, usage};

/// `lookup [-t TYPE] [-s SERVER] NAME`: one record a line, exit 1 when there is none.
pub(crate) fn lookup(args: &[String]) -> Done {
    let options = Options::parse(args, "t:s:", &[("type", 't'), ("server", 's')])?;
    let [name] = options.rest.as_slice() else {
        return Err(usage("usage: lookup [-t TYPE] [-s SERVER] NAME"));
    };
    let config = config(options.value('s'))?;
    let types = match options.value('t') {
        Some(text) => vec![record_type(text)?],
        None if name.parse::<IpAddr>().is_ok() => vec![RecordType::PTR],
        None => vec![RecordType::A, RecordType::AAAA],
    };
    let name = reverse(name);
    let mut out = out()?;
    let mut found = false;
    let mut code = ResponseCode::NXDomain;
    for kind in types {
        let answer = resolver::query(&config, &name, kind)?;
        if answer.code == ResponseCode::NoError {
            code = answer.code;
        }
        for record in &answer.records {
            found = true;
            writeln!(out, "{}", shown(record))?;
        }
    }
    out.flush()?;
    if found {
        return Ok(0);
    }
    let why = if code == ResponseCode::NXDomain { "no such name" } else { "no such record" };
    Err(Fault::new(format!("{name}: {why}")))
}

fn shown(record: &Record) -> String {
    let (name, ttl, kind) = (&record.name, record.ttl, record.record_type());
    format!("{name}\t{ttl}\t{kind}\t{}", data(&record.data))
}

fn data(data: &RData) -> String {
    match data {
        RData::SRV(s) => format!("{} {} {} {}", s.priority, s.weight, s.port, s.target),
        RData::TXT(txt) => {
            let parts = txt.txt_data.iter().map(|p| format!("{:?}", String::from_utf8_lossy(p)));
            parts.collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

fn record_type(text: &str) -> Result<RecordType, Fault> {
    let upper = text.to_uppercase();
    upper.parse().map_err(|_| usage(format!("unknown record type '{text}'; try A, AAAA, SRV, TXT")))
}

/// An address becomes the name under which its pointer is kept.
fn reverse(name: &str) -> String {
    match name.parse::<IpAddr>() {
        Ok(ip) => Name::from(ip).to_ascii(),
        Err(_) => name.to_owned(),
    }
}

fn config(server: Option<&str>) -> Result<Config, Fault> {
    let mut config = Config::system();
    if let Some(server) = server {
        config.servers = match server.parse::<SocketAddr>() {
            Ok(address) => vec![address],
            Err(_) => resolver::socket_addresses(server, 53)?,
        };
    }
    Ok(config)
}

/// `nslookup [-type=TYPE] NAME [SERVER]`, in the usual shape.
pub(crate) fn nslookup(args: &[String]) -> Done {
    let mut kind = None;
    let mut rest = Vec::new();
    for arg in &args[1..] {
        let option = arg.strip_prefix("-type=").or_else(|| arg.strip_prefix("-query="));
        match option.or_else(|| arg.strip_prefix("-q=")) {
            Some(text) => kind = Some(record_type(text)?),
            None if arg.starts_with('-') => {}
            None => rest.push(arg.as_str()),
        }
    }
    let (name, server) = match rest.as_slice() {
        [name] => (*name, None),
        [name, server] => (*name, Some(*server)),
        _ => return Err(usage("usage: nslookup [-type=TYPE] NAME [SERVER]")),
    };
    let config = config(server)?;
    let types = match kind {
        Some(kind) => vec![kind],
        None if name.parse::<IpAddr>().is_ok() => vec![RecordType::PTR],
        None => vec![RecordType::A, RecordType::AAAA],
    };
    let asked = reverse(name);
    let mut out = out()?;
    let mut header = false;
    let mut found = false;
    let mut code = ResponseCode::NXDomain;
    for kind in types {
        let answer = resolver::query(&config, &asked, kind)?;
        if !header {
            let (ip, port) = (answer.server.ip(), answer.server.port());
            writeln!(out, "Server:\t\t{ip}\nAddress:\t{ip}:{port}\n")?;
            header = true;
        }
        if answer.code == ResponseCode::NoError {
            code = answer.code;
        }
        for record in &answer.records {
            found = true;
            write_usual(&mut out, record)?;
        }
    }
    if !found {
        write_missing(&mut out, name, code)?;
    }
    out.flush()?;
    Ok(i32::from(!found))
}

fn write_missing(out: &mut impl Write, name: &str, code: ResponseCode) -> std::io::Result<()> {
    if code == ResponseCode::NXDomain {
        writeln!(out, "** server can't find {name}: NXDOMAIN\n")
    } else {
        writeln!(out, "*** Can't find {name}: No answer\n")
    }
}

fn write_usual(out: &mut impl Write, record: &Record) -> std::io::Result<()> {
    let name = record.name.to_ascii();
    let name = name.trim_end_matches('.');
    let bare = |n: &Name| n.to_ascii().trim_end_matches('.').to_owned();
    match &record.data {
        RData::A(a) => writeln!(out, "Name:\t{name}\nAddress: {}\n", a.0),
        RData::AAAA(a) => writeln!(out, "Name:\t{name}\nAddress: {}\n", a.0),
        RData::CNAME(c) => writeln!(out, "{name}\tcanonical name = {}", bare(&c.0)),
        RData::PTR(p) => writeln!(out, "{name}\tname = {}\n", bare(&p.0)),
        RData::SRV(s) => writeln!(
            out,
            "{name}\tservice = {} {} {} {}",
            s.priority,
            s.weight,
            s.port,
            bare(&s.target)
        ),
        RData::TXT(_) => writeln!(out, "{name}\ttext = {}", data(&record.data)),
        other => writeln!(out, "{name}\t{} = {}", record.record_type(), data(other)),
    }
}
