// What can go wrong: whoever drives this client reads the sentence.

/** The server said no. */
export class Refused extends Error {
  constructor(status, { code = "", message = "", current_epoch: currentEpoch } = {}) {
    super(`${status} ${code}: ${message}`);
    /** For a commit: the epoch that the group is in. */
    this.currentEpoch = currentEpoch;
    this.reason = message;
  }
}

/** No answer, or none that could be read. */
export class NoAnswer extends Error {
  constructor(what) {
    super(`no answer: ${what}`);
  }
}

/** Something that another party made breaks a rule of the draft. */
export class Invalid extends Error {
  constructor(what) {
    super(`invalid: ${what}`);
  }
}

/** The command makes no sense now. */
export class CannotDo extends Error {}

/** What is there, or `Invalid`. */
export function needed(value, what) {
  if (value === undefined || value === null) {
    throw new Invalid(what);
  }
  return value;
}
