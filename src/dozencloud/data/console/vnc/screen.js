// The screen of one server. Nova writes the token into the address as ?path=?token=...

import RFB from "../lib/novnc/core/rfb.js";
import { ENDED, EXPIRED, PROTOCOLS, say, socketAddress } from "../common.js";

const ASK = "openstack console url show --novnc SERVER";

function connect(token) {
  const keys = document.querySelector("#keys");
  const rfb = new RFB(document.querySelector("main"), socketAddress(token), {
    wsProtocols: PROTOCOLS,
  });
  let shown = false;
  rfb.scaleViewport = true;
  rfb.background = "transparent";
  rfb.addEventListener("connect", () => {
    shown = true;
    keys.disabled = false;
    say("Connected. A click gives the keyboard to the server.", "open");
    rfb.focus();
  });
  rfb.addEventListener("disconnect", () => {
    keys.disabled = true;
    say((shown ? ENDED : EXPIRED) + ASK, "closed");
  });
  keys.addEventListener("click", () => {
    rfb.sendCtrlAltDel();
    rfb.focus();
  });
}

function start() {
  const path = new URLSearchParams(location.search).get("path") ?? "";
  const token = new URLSearchParams(path.slice(path.indexOf("?") + 1)).get("token");
  const full = document.querySelector("#full");
  full.addEventListener("click", () => document.querySelector("main").requestFullscreen());
  if (!token) {
    say("The address of this page lacks its token. Ask for one: " + ASK, "closed");
    return;
  }
  say("Connecting…");
  connect(token);
}

start();
