// The serial console of one server. The token is in the address: #token=... or ?token=...

import { FitAddon } from "../lib/xterm-fit/lib/addon-fit.mjs";
import { Terminal } from "../lib/xterm/lib/xterm.mjs";
import { ENDED, EXPIRED, PROTOCOLS, say, socketAddress } from "../common.js";

// What the client of OpenStack prints is for programs (wss:); its token is good here, too.
const ASK =
  "dozen console --url SERVER. Or put the token of what openstack console url show --serial SERVER " +
  "prints behind the # in the address of this page.";

function connect(token, terminal) {
  const socket = new WebSocket(socketAddress(token), PROTOCOLS);
  const encoder = new TextEncoder();
  let heard = false;
  const opened = { at: 0 };
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    opened.at = Date.now();
    say("Connected. Press Enter if nothing appears.", "open");
    terminal.focus();
  };
  socket.onmessage = (event) => {
    heard = true;
    terminal.write(new Uint8Array(event.data));
  };
  socket.onclose = () => {
    // The proxy takes the connection first and looks at the token then.
    const refused = !heard && Date.now() - opened.at < 5000;
    say((refused || !opened.at ? EXPIRED : ENDED) + ASK, "closed");
    terminal.options.disableStdin = true;
  };
  const send = (bytes) => {
    if (socket.readyState === WebSocket.OPEN) socket.send(bytes);
  };
  terminal.onData((text) => send(encoder.encode(text)));
  terminal.onBinary((text) => send(Uint8Array.from(text, (c) => c.charCodeAt(0))));
}

function start() {
  const given = new URLSearchParams(location.hash.slice(1) || location.search);
  const token = given.get("token");
  if (!token) {
    say("The address of this page lacks its token. Ask for one: " + ASK, "closed");
    return;
  }
  const terminal = new Terminal({ fontSize: 14, scrollback: 10000, theme: { background: "#101418" } });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  terminal.open(document.querySelector("main"));
  fit.fit();
  addEventListener("resize", () => fit.fit());
  // A new token in the address alone does not load the page again.
  addEventListener("hashchange", () => location.reload());
  say("Connecting…");
  connect(token, terminal);
}

start();
