/**
 * Which closes are final. Pure.
 */

/** The client's own code for a connection that was not there in time. */
export const TIMED_OUT = 4000;
/** The client's own code for a message that it cannot read. */
export const MALFORMED = 4000;
/** The code for a peer that no longer answers. */
export const NO_ANSWER = 4012;
/** The server's code for an expired token. */
export const TOKEN_EXPIRED = 4005;

/**
 * Whether to stay away after a close with this code: 4500–4999 by the protocol, and of the standard
 * codes those that say what was sent is not acceptable (1002, 1003 and 1007–1010), because it would be
 * sent again.
 */
export const isFinal = (code: number): boolean => /^(4[5-9]..|100[237-9]|1010)$/.test(`${code}`);
