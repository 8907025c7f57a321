// An MLS client that is not OpenMLS: ts-mls behind Nabe's client API.
//
//   node src/main.mjs --server URL --ca FILE --token-file FILE --device ID [--user ID]
//
// It logs in with a token (or, with `--user`, a provider's credential), publishes a new device and its key packages, and follows the event
// stream. Commands come on standard input, one JSON object per line; what happens goes to standard output in the same form: `answer`
// for each command in order, `notice` for everything else, among them one `epoch` for each commit with the epoch authenticator. The
// keys live as long as the process.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { parseArgs } from "node:util";

import { Api } from "./api.mjs";
import { checkDevice, deviceObject, generateDevice } from "./device.mjs";
import { CannotDo, Invalid, needed, NoAnswer } from "./errors.mjs";
import { Member } from "./member.mjs";
import { receive, sentence } from "./receive.mjs";
import { suite } from "./stack.mjs";

const PAUSE_MS = 20;
/** For something that others have to do. */
const PATIENCE_MS = 15_000;

/** What this process reacts to, in order: `{ line }`, `{ end }`, `{ kind, data }` of the event stream, `{ broke }`. */
class Inputs {
  #queue = [];
  #wake;

  put(input) {
    this.#queue.push(input);
    this.#wake?.();
  }

  /** The next one; `undefined` if none has come by the deadline. */
  async next(deadline = Infinity) {
    while (this.#queue.length === 0) {
      const left = deadline - Date.now();
      if (left <= 0) {
        return undefined;
      }
      let timer;
      await new Promise((wake) => {
        this.#wake = wake;
        if (left !== Infinity) {
          timer = setTimeout(wake, left);
        }
      });
      clearTimeout(timer);
    }
    return this.#queue.shift();
  }
}

/** A member, and what is to be done. */
class Session {
  /** Commands that came while another one was at work. */
  #waiting = [];

  constructor(member, inputs) {
    this.member = member;
    this.inputs = inputs;
  }

  /** Does as it is told until there are no more commands. */
  async obey() {
    say({ notice: "ready", user: this.member.own.user, device: this.member.own.device });
    for (;;) {
      const input = this.#waiting.shift() ?? (await this.inputs.next());
      if (input.end) {
        return;
      }
      if (input.line === undefined) {
        await this.#take(input);
      } else if (input.line.trim() !== "") {
        try {
          say({ answer: await this.#command(JSON.parse(input.line)), ok: true });
        } catch (error) {
          say({ answer: sentence(error), ok: false });
        }
      }
    }
  }

  /** Takes in what happens until something is there. */
  async until(look) {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      const found = look();
      if (found) {
        return found;
      }
      const input = await this.inputs.next(deadline);
      if (input === undefined) {
        throw new NoAnswer("nothing came by the stream");
      }
      if (input.end || input.line !== undefined) {
        this.#waiting.push(input);
      } else {
        await this.#take(input);
      }
    }
  }

  async #command(command) {
    const deadline = Date.now() + PATIENCE_MS;
    for (let first = true; first || Date.now() < deadline; first = false) {
      const step = await this.member.command(command, first);
      if (step.done !== undefined) {
        return step.done;
      }
      if (step.sent !== undefined) {
        // It counts when the hub has put it in the log, and not before.
        const { won, error } = await this.until(() => this.member.outcome(step.sent));
        if (error) {
          throw error;
        }
        if (won) {
          return this.member.room(step.sent).state();
        }
        say({ notice: "lost_race", room: step.sent });
      } else {
        say({ notice: "lost_race", room: step.behind, current_epoch: step.epoch });
        await this.until(() => this.member.hasReached(step.behind, step.epoch));
        // Whoever joins externally sees no commits, but asks its server for the newest one.
        await pause(PAUSE_MS);
      }
    }
    throw new CannotDo("other commits won too often");
  }

  async #take({ kind, data, broke }) {
    try {
      if (broke) {
        throw broke;
      }
      await receive(this.member, kind, data, say);
    } catch (error) {
      say({ notice: "problem", reason: sentence(error) });
    }
  }
}

async function main() {
  const text = { type: "string" };
  const { values } = parseArgs({ options: { server: text, ca: text, "token-file": text, device: text, user: text } });
  for (const name of ["server", "ca", "token-file", "device"]) {
    needed(values[name], `--${name} is needed`);
  }
  const acting = values.user && { user: values.user, device: values.device };
  const token = readFileSync(values["token-file"], "utf8").trim();
  const api = new Api(values.server, readFileSync(values.ca), token, acting);
  const { user_id: user } = await api.get("/whoami");
  const own = await generateDevice(needed(user, "whoami"), values.device, suite.signature);
  const object = await deviceObject(own, suite.signature);
  if ((await checkDevice(object, own.user, suite.signature)) === undefined) {
    throw new Invalid("the own device object");
  }
  await api.put(`/devices/${encodeURIComponent(own.device)}`, object);

  const inputs = new Inputs();
  const item = (kind, data) => inputs.put({ kind, data });
  // It ends with the process.
  void api.follow(own.device, item, (broke) => inputs.put({ broke }));
  const lines = createInterface({ input: process.stdin });
  lines.on("line", (line) => inputs.put({ line }));
  lines.on("close", () => inputs.put({ end: true }));

  const session = new Session(new Member(api, own), inputs);
  await session.until(() => session.member.ready);
  await session.member.stockUp();
  await session.obey();
}

/** Prints one line. */
function say(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

try {
  await main();
  process.exit(0);
} catch (error) {
  console.error(`ts-mls-client: ${sentence(error)}`);
  process.exit(1);
}
