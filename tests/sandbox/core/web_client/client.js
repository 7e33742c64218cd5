// What a browser does in UCloud's web client for files: it asks Core for lists and addresses, and the provider for contents.
"use strict";

const CHUNK = 16_000_000; // bytes of a chunk
const LISTING = 64 * 1024; // bytes of a frame that lists files
const BATCH = 5000; // files that are listed before the provider has them all
const AT_A_TIME = 256; // files that are sent beside each other
const UNSENT = 64 * 1024 * 1024; // bytes that wait in the browser
const MOST_ENTRIES = 10_000;
const OK = 0, CHUNK_OF = 2, SKIP = 3, LIST = 4, COMPLETED = 5;

let user = "";
let here = "";

async function core(call, asked = {}) {
    const answer = await fetch("/api/" + call, {method: "POST", body: JSON.stringify(asked)});
    const data = await answer.json();
    if (!answer.ok) {
        delete document.body.dataset.loading;
        document.getElementById("problem").textContent = data.why;
        throw new Error(data.why);
    }
    return data;
}

function element(id) {
    return document.getElementById(id);
}

function row(list, name, data = {}) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.className = "name";
    button.textContent = name;
    Object.assign(item.dataset, {name, ...data});
    item.append(button);
    element(list).append(item);
    return item;
}

// -- lists ---------------------------------------------------------------------------------------------------------

async function showDrives() {
    const drives = await core("drives");
    element("drives").replaceChildren();
    for (const drive of drives) {
        row("drives", drive.specification.title, {drive: drive.id}).onclick = () => open("/" + drive.id);
    }
}

async function showJobs() {
    const jobs = await core("jobs");
    element("jobs").replaceChildren();
    for (const job of jobs) {
        const item = row("jobs", job.id + " " + job.state, {job: job.id, state: job.state});
        // UCloud shows the folder when the job has ended.
        if (["SUCCESS", "FAILURE", "EXPIRED"].includes(job.state) && job.outputFolder) {
            item.dataset.folder = job.outputFolder;
            item.onclick = () => open(job.outputFolder);
        }
    }
}

async function showTasks() {
    const tasks = await core("tasks");
    element("tasks").replaceChildren();
    for (const task of tasks) {
        row("tasks", `${task.status.title}: ${task.status.state} ${task.status.progress}`, {state: task.status.state});
    }
}

async function open(path) {
    element("problem").textContent = "";
    document.body.dataset.loading = path;
    const entries = [];
    let next = null;
    do {
        const page = await core("browse", {path, next});
        entries.push(...page.items);
        next = page.next;
    } while (next !== null && entries.length < MOST_ENTRIES);
    here = path;
    element("path").textContent = path;
    element("entries").replaceChildren();
    for (const entry of entries.sort((a, b) => a.id < b.id ? -1 : 1)) {
        const isFolder = entry.status.type === "DIRECTORY";
        const name = entry.id.slice(entry.id.lastIndexOf("/") + 1);
        const item = row("entries", name, {path: entry.id, type: entry.status.type, size: entry.status.sizeInBytes});
        item.querySelector("button").onclick = () => isFolder ? open(entry.id) : preview(entry.id);
        const button = document.createElement("button");
        button.className = isFolder ? "trash" : "download";
        button.textContent = isFolder ? "Delete" : "Download";
        button.onclick = () => isFolder ? core("trash", {path: entry.id}).then(() => open(here)) : download(entry.id);
        item.append(button);
    }
    delete document.body.dataset.loading;
}

// -- contents that come --------------------------------------------------------------------------------------------

function withHint(endpoint) {
    return endpoint + (endpoint.includes("?") ? "&" : "?") + "usernameHint=" + base64(user);
}

function base64(text) {
    return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}

async function download(path) {
    const {endpoint} = await core("download", {path});
    const link = document.createElement("a");
    link.href = withHint(endpoint);
    document.body.append(link);
    link.click(); // in this tab: without an attachment the page would be left
    link.remove();
}

async function preview(path) {
    const {endpoint} = await core("download", {path});
    element("preview").hidden = false;
    try {
        const answer = await fetch(withHint(endpoint), {credentials: "omit"});
        element("preview").textContent = await answer.text();
    } catch (error) {
        element("preview").textContent = "The preview is blocked: " + error;
    }
}

// -- contents that go ----------------------------------------------------------------------------------------------

function upload(name) {
    const item = row("uploads", name, {state: "running"});
    const status = document.createElement("span");
    item.append(status);
    return (state, text) => {
        item.dataset.state = state;
        status.textContent = text;
    };
}

async function uploadFile(file) {
    const show = upload(file.name);
    const link = await core("upload", {path: here + "/" + file.name, type: "FILE"});
    if (link.protocol !== "CHUNKED") return show("failed", "Upload not supported for this provider");
    for (let offset = 0; offset < file.size; offset += CHUNK) {
        show("running", `${offset} of ${file.size}`);
        const status = await sendChunk(link, file, offset);
        if (status === 0) return show("hangs", "in progress"); // nothing is known any more
        if (status < 200 || status > 299) return show("failed", "Upload failed");
    }
    await open(here);
    show("done", "done");
}

function sendChunk(link, file, offset) {
    return new Promise(resolve => {
        const request = new XMLHttpRequest();
        request.open("POST", link.endpoint);
        request.setRequestHeader("Chunked-Upload-Token", link.token);
        request.setRequestHeader("Chunked-Upload-Offset", String(offset));
        request.setRequestHeader("Chunked-Upload-Total-Size", String(file.size));
        request.setRequestHeader("UCloud-Username", base64(user));
        request.responseType = "text";
        request.onreadystatechange = () => {
            if (request.readyState >= 2) resolve(request.status); // its headers are enough
        };
        request.onerror = () => resolve(0);
        file.slice(offset, offset + CHUNK).arrayBuffer().then(data => request.send(data));
    });
}

async function uploadFolder(files) {
    const root = files[0].webkitRelativePath.split("/")[0];
    const show = upload(root);
    const link = await core("upload", {path: here + "/" + root, type: "FOLDER"});
    if (!["WEBSOCKET", "WEBSOCKET_V2"].includes(link.protocol)) return show("hangs", "in progress");
    const parts = files.map(file => ({file, path: file.webkitRelativePath.slice(root.length + 1)}));
    const completed = await new Folder(link.endpoint.replace(/^http/, "ws"), parts).sent();
    // No message says that something failed.
    await open(here);
    show(completed === parts.length ? "done" : "incomplete", `Uploaded ${completed} of ${parts.length} files`);
}

class Folder {
    constructor(endpoint, parts) {
        this.parts = parts;
        this.listed = 0;
        this.completed = 0;
        this.wanted = [];
        this.sending = 0;
        this.socket = new WebSocket(endpoint);
        this.socket.binaryType = "arraybuffer";
    }

    sent() {
        return new Promise(resolve => {
            this.socket.onopen = () => this.list();
            this.socket.onmessage = event => this.hear(new DataView(event.data));
            this.socket.onclose = () => resolve(this.completed);
        });
    }

    list() {
        const until = Math.min(this.listed + BATCH, this.parts.length);
        let frame = [new Uint8Array([LIST])], size = 1;
        const flush = () => {
            this.socket.send(new Blob(frame));
            frame = [new Uint8Array([LIST])];
            size = 1;
        };
        for (; this.listed < until; this.listed++) {
            const {file, path} = this.parts[this.listed];
            const name = new TextEncoder().encode(path);
            const entry = new DataView(new ArrayBuffer(24 + name.length));
            entry.setInt32(0, this.listed);
            entry.setBigInt64(4, BigInt(file.size));
            entry.setBigInt64(12, BigInt(file.lastModified));
            entry.setInt32(20, name.length);
            new Uint8Array(entry.buffer).set(name, 24);
            if (size + entry.byteLength > LISTING) flush();
            frame.push(entry.buffer);
            size += entry.byteLength;
        }
        flush();
    }

    hear(data) {
        for (let at = 0; at < data.byteLength; at += 5) {
            const kind = data.getUint8(at), number = data.getUint32(at + 1);
            if (kind === OK) this.wanted.push(number);
            if (kind === COMPLETED) this.completed = number;
        }
        while (this.wanted.length > 0 && this.sending < AT_A_TIME) this.send(this.wanted.shift());
        if (this.completed >= this.parts.length) this.socket.close();
        else if (this.completed >= this.listed) this.list();
    }

    async send(number) {
        this.sending++;
        const {file} = this.parts[number];
        for (let offset = 0; offset === 0 || offset < file.size; offset += CHUNK) {
            const head = new DataView(new ArrayBuffer(5));
            try {
                head.setUint8(0, CHUNK_OF);
                head.setUint32(1, number);
                const data = await file.slice(offset, offset + CHUNK).arrayBuffer();
                while (this.socket.bufferedAmount > UNSENT) await new Promise(again => setTimeout(again, 10));
                this.socket.send(new Blob([head.buffer, data]));
            } catch {
                head.setUint8(0, SKIP);
                this.socket.send(head.buffer);
                break;
            }
        }
        this.sending--;
        while (this.wanted.length > 0 && this.sending < AT_A_TIME) this.send(this.wanted.shift());
    }
}

// -- the page ------------------------------------------------------------------------------------------------------

element("file").onchange = event => uploadFile(event.target.files[0]);
element("folder").onchange = event => uploadFolder([...event.target.files]);
core("user").then(data => {
    user = data.username;
    element("user").textContent = user;
    showDrives();
    showJobs();
    showTasks();
});
