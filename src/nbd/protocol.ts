/**
 * The numbers of the NBD protocol that this server speaks.
 *
 * Names and values are those of the specification, doc/proto.md of NetworkBlockDevice/nbd; those of extended headers
 * are in its branch extension-ext-header. All integers on the wire are big-endian.
 */

/** The greeting: `NBDMAGIC`, `IHAVEOPT`. */
export const NBD_MAGIC = 0x4e42444d41474943n
export const OPTION_MAGIC = 0x49484156454f5054n
export const OPTION_REPLY_MAGIC = 0x0003e889045565a9n
export const REQUEST_MAGIC = 0x25609513
export const SIMPLE_REPLY_MAGIC = 0x67446698
export const STRUCTURED_REPLY_MAGIC = 0x668e33ef
export const EXTENDED_REQUEST_MAGIC = 0x21e41c71
export const EXTENDED_REPLY_MAGIC = 0x6e8a278c

export const CLIENT_FLAGS_BYTES = 4
export const OPTION_HEADER_BYTES = 16
export const OPTION_REPLY_HEADER_BYTES = 20
export const REQUEST_HEADER_BYTES = 28
export const EXTENDED_REQUEST_HEADER_BYTES = 32
export const SIMPLE_REPLY_BYTES = 16
export const STRUCTURED_REPLY_HEADER_BYTES = 20
export const EXTENDED_REPLY_HEADER_BYTES = 32
/** What ends the answer to EXPORT_NAME for a client that did not ask to be spared it. */
export const EXPORT_NAME_PADDING_BYTES = 124

/** Strings of the protocol, names and descriptions, are no longer. */
export const MAX_STRING_BYTES = 4096

export const HANDSHAKE_FLAG = { FIXED_NEWSTYLE: 1 << 0, NO_ZEROES: 1 << 1 } as const

export const OPTION = {
  EXPORT_NAME: 1,
  ABORT: 2,
  LIST: 3,
  STARTTLS: 5,
  INFO: 6,
  GO: 7,
  STRUCTURED_REPLY: 8,
  LIST_META_CONTEXT: 9,
  SET_META_CONTEXT: 10,
  EXTENDED_HEADERS: 11
} as const

const ERROR_REPLY = 2 ** 31
export const REPLY = {
  ACK: 1,
  SERVER: 2,
  INFO: 3,
  META_CONTEXT: 4,
  ERR_UNSUP: ERROR_REPLY + 1,
  ERR_POLICY: ERROR_REPLY + 2,
  ERR_INVALID: ERROR_REPLY + 3,
  ERR_TLS_REQD: ERROR_REPLY + 5,
  ERR_UNKNOWN: ERROR_REPLY + 6,
  ERR_SHUTDOWN: ERROR_REPLY + 7,
  ERR_TOO_BIG: ERROR_REPLY + 9,
  ERR_EXT_HEADER_REQD: ERROR_REPLY + 10
} as const

export const INFO = { EXPORT: 0, NAME: 1, DESCRIPTION: 2, BLOCK_SIZE: 3 } as const

export const TRANSMISSION_FLAG = {
  HAS_FLAGS: 1 << 0,
  READ_ONLY: 1 << 1,
  SEND_FLUSH: 1 << 2,
  SEND_FUA: 1 << 3,
  SEND_TRIM: 1 << 5,
  SEND_WRITE_ZEROES: 1 << 6,
  SEND_DF: 1 << 7,
  CAN_MULTI_CONN: 1 << 8,
  SEND_CACHE: 1 << 10,
  SEND_FAST_ZERO: 1 << 11,
  BLOCK_STATUS_PAYLOAD: 1 << 12
} as const

export const COMMAND = {
  READ: 0,
  WRITE: 1,
  DISC: 2,
  FLUSH: 3,
  TRIM: 4,
  CACHE: 5,
  WRITE_ZEROES: 6,
  BLOCK_STATUS: 7
} as const

export const COMMAND_FLAG = {
  FUA: 1 << 0,
  NO_HOLE: 1 << 1,
  DF: 1 << 2,
  REQ_ONE: 1 << 3,
  FAST_ZERO: 1 << 4,
  PAYLOAD_LEN: 1 << 5
} as const

/** Ends a reply of one or more chunks. */
export const CHUNK_DONE = 1 << 0

export const CHUNK = {
  NONE: 0,
  OFFSET_DATA: 1,
  OFFSET_HOLE: 2,
  BLOCK_STATUS: 5,
  BLOCK_STATUS_EXT: 6,
  ERROR: 2 ** 15 + 1,
  ERROR_OFFSET: 2 ** 15 + 2
} as const

/** What `base:allocation` says of an extent. */
export const STATE = { HOLE: 1 << 0, ZERO: 1 << 1 } as const

/** What a reply says went wrong; the only values that the protocol allows. */
export const ERRNO = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108
} as const

/** Sectors of a guest: what a client that asks for block sizes must keep to. */
export const MINIMUM_BLOCK_BYTES = 512

/**
 * Requests of this size and alignment cost no reading around them, and it is what the specification calls the default.
 * Not the 64 KiB in which images are fetched: the kernel's client takes the preferred size for its logical blocks and
 * refuses more than a memory page, and QEMU's would widen small copies for nothing.
 */
export const PREFERRED_BLOCK_BYTES = 4096

/** What clients may rely on without asking, and what this server says when asked. */
export const MAX_PAYLOAD_BYTES = 32 * 1024 * 1024
