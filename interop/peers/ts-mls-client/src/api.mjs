// Nabe's client API over HTTPS, as far as a device with an MLS stack of its own needs it.

import https from "node:https";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";

import { Invalid, needed, NoAnswer, Refused } from "./errors.mjs";

const TIMEOUT_MS = 12_000;
const RECONNECT_MS = 100;

/** One device's line to its server. */
export class Api {
  #server;
  #headers;
  #agent;

  /**
   * For the server at `server` (`https://host:port`), whose certificate the authority in `ca` (PEM) has signed. With a provider's
   * credential, `acting` is for whom: `{ user, device }`. A user's own token says so itself.
   */
  constructor(server, ca, token, acting) {
    this.#server = server.replace(/\/+$/, "");
    this.#headers = { authorization: `Bearer ${token}` };
    if (acting) {
      this.#headers["nabe-user"] = acting.user;
      this.#headers["nabe-device"] = acting.device;
    }
    this.#agent = new https.Agent({ ca, keepAlive: true });
  }

  get(path) {
    return this.#exchange("GET", path);
  }

  /** With a JSON body. The same request with the same key is one request. */
  post(path, body, key) {
    return this.#exchange("POST", path, body, key === undefined ? {} : { "idempotency-key": key });
  }

  put(path, body) {
    return this.#exchange("PUT", path, body);
  }

  sendEvent(room, type, content, key) {
    return this.post(`/rooms/${encodeURIComponent(room)}/events`, { type, content }, key);
  }

  /** Uploads key packages, `[{ key, last_resort }]`; each must be taken. */
  async uploadKeyPackages(device, algorithm, packages) {
    const path = `/devices/${encodeURIComponent(device)}/key_packages`;
    const answer = await this.post(path, { algorithm, key_packages: packages });
    if (answer.results?.filter((result) => result.key_id !== undefined).length !== packages.length) {
      throw new Invalid(`the server does not take our key packages: ${JSON.stringify(answer)}`);
    }
  }

  /** A user's device objects, unchecked. */
  async devices(user) {
    const answer = await this.get(`/users/${encodeURIComponent(user)}/devices`);
    return needed(answer.devices, "no `devices` in the answer");
  }

  /** Claims a key package of one device, unchecked. */
  async claim(user, device, algorithm) {
    const answer = await this.post("/keys/claim", { one_time_keys: { [user]: { [device]: algorithm } } });
    const key = answer.one_time_keys?.[user]?.[device]?.[algorithm];
    return decode(needed(key, `no key package for ${user} ${device}: ${JSON.stringify(answer)}`));
  }

  /** The newest commit of a room's log. */
  group(room) {
    return this.get(`/rooms/${encodeURIComponent(room)}/group`);
  }

  /**
   * Follows the event stream for as long as the process lives: `item(kind, data)` for what it brings, `broke(error)` after a break, from
   * which it goes on where it was.
   */
  async follow(device, item, broke) {
    let since;
    const path = `/stream?device=${encodeURIComponent(device)}`;
    for (;;) {
      try {
        const response = await this.#request("GET", path, undefined, since === undefined ? {} : { "last-event-id": since });
        if (response.statusCode !== 200) {
          await read(response);
          throw new Invalid("the stream is not one");
        }
        let field = {};
        for await (const line of createInterface({ input: response, crlfDelay: Infinity })) {
          const [, name, value] = /^([a-z]+): ?(.*)$/.exec(line) ?? [];
          if (name !== undefined) {
            field[name] = (field[name] ?? "") + value;
          } else if (line === "") {
            if (field.event !== undefined) {
              item(field.event, JSON.parse(field.data));
              since = field.id ?? since;
            }
            field = {};
          }
        }
      } catch (error) {
        broke(error);
      }
      await pause(RECONNECT_MS, undefined, { ref: false });
    }
  }

  async #exchange(method, path, body, headers = {}) {
    const giveUp = AbortSignal.timeout(TIMEOUT_MS);
    const text = body === undefined ? undefined : JSON.stringify(body);
    return read(await this.#request(method, path, text, headers, giveUp));
  }

  #request(method, path, body, headers, signal) {
    return new Promise((answered, failed) => {
      const options = { method, agent: this.#agent, headers: { ...this.#headers, ...headers }, signal };
      if (body !== undefined) {
        options.headers["content-type"] = "application/json";
      }
      https
        .request(`${this.#server}/_nabe/v1${path}`, options, answered)
        .on("error", (error) => failed(new NoAnswer(error.message)))
        .end(body);
    });
  }
}

/** Unpadded base64, as all of the draft's. */
export function encode(bytes) {
  return Buffer.from(bytes).toString("base64").replace(/=+$/, "");
}

/** Reads unpadded base64. */
export function decode(text) {
  const bytes = new Uint8Array(Buffer.from(text, "base64"));
  if (encode(bytes) !== text) {
    throw new Invalid("base64");
  }
  return bytes;
}

async function read(response) {
  const parts = [];
  try {
    for await (const part of response) {
      parts.push(part);
    }
  } catch (error) {
    throw new NoAnswer(error.message);
  }
  let body;
  try {
    body = JSON.parse(Buffer.concat(parts).toString("utf8"));
  } catch (error) {
    throw new NoAnswer(`${response.statusCode}: ${error.message}`);
  }
  if (response.statusCode >= 200 && response.statusCode < 300) {
    return body;
  }
  throw new Refused(response.statusCode, body.error);
}
