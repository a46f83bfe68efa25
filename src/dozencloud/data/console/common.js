// What both console pages share: the way to the proxy, and the line that says how it stands.

export const PROTOCOLS = ["binary"];
export const EXPIRED =
  "The console hung up at once. Its address has expired, the server is off, or somebody else " +
  "has this console open. Ask for a new address: ";
export const ENDED = "The connection has ended. Reload the page, or ask for a new address: ";

/** Address of the console proxy beside this page, for the one server that the token stands for. */
export function socketAddress(token) {
  const url = new URL("socket", location.href);
  url.protocol = "wss:";
  url.search = new URLSearchParams({ token });
  url.hash = "";
  return url.href;
}

/** Show how the connection stands. state: "", "open" or "closed". */
export function say(text, state = "") {
  const line = document.querySelector("output");
  line.textContent = text;
  line.className = state;
}
