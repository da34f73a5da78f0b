/**
 * Every way in which rowan says no.
 *
 * One class, one table. A `code` is stable: tests and scripts may rely on it. The message that is thrown says what was
 * wrong with which value; the table says what the code means and what to do about it (it also makes docs/ERRORS.md).
 */

interface ErrorKind {
  /** What has happened, in general. */
  meaning: string
  /** What a person can do. */
  advice: string
  /** What a guest sees when the failure reaches its disk; EIO if absent. */
  nbd?: 'EPERM' | 'EIO' | 'ENOMEM' | 'EINVAL' | 'ENOSPC' | 'EOVERFLOW' | 'ENOTSUP' | 'ESHUTDOWN'
  /** Exit status of the command line: 1 failed (default), 2 wrong usage. */
  exit?: 1 | 2
}

export const ERRORS = {
  // General
  USAGE: { meaning: 'The command line was not understood.', advice: 'See `rowan --help`.', exit: 2 },
  INTERNAL: { meaning: 'Something failed that should not.', advice: 'Please report it, with the log of `rowan up`.' },
  ABORTED: { meaning: 'The work was stopped before it was done.', advice: 'Run the command again.' },
  LIMIT_EXCEEDED: { meaning: 'A named limit was reached.', advice: 'The message names the limit and its value.' },
  LIMIT_INVALID: {
    meaning: 'A limit of traffic is not written as one: a rate, or hours of the day.',
    advice: 'Write rates like `5Mbit` or `unlimited`, hours like `22:00-07:00` or `always`.',
    exit: 2
  },
  NAME_INVALID: {
    meaning: 'A name or version is outside `[a-z0-9][a-z0-9._-]{0,63}`.',
    advice: 'Use lower-case letters, digits, dot, dash and underscore, beginning with a letter or digit.',
    exit: 2
  },
  APPLIANCE_REF_INVALID: {
    meaning: 'An appliance was not written as NAME, PUBLISHER/NAME or an alias, with @VERSION or :CHANNEL behind it.',
    advice: 'Write it like `grid`, `grid@v2`, `grid:stable` or `12D3KooW…/grid@v2`.',
    exit: 2
  },
  FILE_EXISTS: { meaning: 'A file that would be written exists already.', advice: 'Choose another name, or move it.' },
  FILE_UNWRITABLE: { meaning: 'A file cannot be written.', advice: 'Check its folder and its permissions.' },
  // Image: formats
  INDEX_INVALID: {
    meaning: 'Part of an index is not what its hash or its place promises.',
    advice: 'Nothing: the peer that sent it is dropped and another is asked.'
  },
  RECORD_INVALID: {
    meaning: 'A signed record is malformed or beyond its bounds.',
    advice: 'Nothing: the record is ignored.'
  },
  SIGNATURE_INVALID: {
    meaning: 'A signature does not match, or the signer may not sign this.',
    advice: 'Nothing: the record is ignored.'
  },
  BLOCK_INVALID: {
    meaning: 'The bytes of a block do not have its hash.',
    advice: 'Nothing: the peer that sent it is dropped and another is asked.'
  },
  PROFILE_INVALID: {
    meaning: 'A boot profile is malformed, beyond its bounds, or names blocks that the image does not have.',
    advice: 'Nothing: it is passed over, for profiles are only advice.'
  },
  // Store
  HOME_IN_USE: { meaning: 'Another daemon uses this home.', advice: 'Stop it, or choose another folder with --home.' },
  HOME_UNUSABLE: {
    meaning: 'The home folder cannot be made, read or written.',
    advice: 'Check its owner and permissions.'
  },
  CATALOG_CORRUPT: {
    meaning: 'The catalog of the store is damaged.',
    advice: 'Run `rowan doctor --repair`; blocks and machines are kept.'
  },
  DISK_FULL: {
    meaning: 'The disk that holds the home is full.',
    advice: 'Free some space; nothing that was kept is lost.',
    nbd: 'ENOSPC'
  },
  POOL_FULL: {
    meaning: 'The pool has reached its quota.',
    advice: 'Raise `[pool] quota`, or remove machines and replicas.'
  },
  STORE_IO: {
    meaning: 'The disk under the store failed to read or write.',
    advice: 'Check the disk; see the message for the file.'
  },
  // Publishing
  IMAGE_NOT_FOUND: { meaning: 'The image file does not exist.', advice: 'Check the path.' },
  IMAGE_NOT_A_FILE: { meaning: 'The image is a directory or a special file.', advice: 'Give a raw or qcow2 file.' },
  IMAGE_UNREADABLE: {
    meaning: 'The image file may not be read.',
    advice: 'Check its permissions; the daemon reads it as its own user.'
  },
  IMAGE_EMPTY: { meaning: 'The image file has no bytes.', advice: 'Give a raw or qcow2 file with a disk in it.' },
  IMAGE_TOO_LARGE: { meaning: 'The image is larger than 8 TiB.', advice: 'Make the disk smaller.' },
  IMAGE_CHANGED: {
    meaning: 'The image file changed while it was read.',
    advice: 'Stop what writes to it, then publish again.'
  },
  IMAGE_FORMAT: {
    meaning: 'The image is of a format that cannot be published.',
    advice: 'Convert it: `qemu-img convert -O raw IMAGE disk.raw`.'
  },
  IMAGE_HAS_BACKING: {
    meaning: 'A qcow2 image names a backing or data file, which could publish a file of this host.',
    advice: 'Flatten it first: `qemu-img convert -O qcow2 IMAGE flat.qcow2`.'
  },
  TOOL_MISSING: {
    meaning: 'A program that is needed is not installed.',
    advice: 'Install the Debian package that the message names.'
  },
  RELEASE_EXISTS: {
    meaning: 'This version exists with other content, and releases are immutable.',
    advice: 'Publish under a new version.'
  },
  RELEASE_NEEDED: {
    meaning: 'A release that should be removed is one that must stay.',
    advice: 'The message says why: point its channels elsewhere first, or remove the machine that is of it.'
  },
  VERSION_AMBIGUOUS: {
    meaning: 'Several of your appliances have a version of this name.',
    advice: 'Write it as `NAME@VERSION`.',
    exit: 2
  },
  CHANNEL_INVALID: {
    meaning: 'A channel or its rollout is not valid.',
    advice: 'A rollout is a number from 1 to 100.',
    exit: 2
  },
  BOOT_FAILED: {
    meaning: 'A boot that was to be recorded did not come about.',
    advice: 'Boot the image by itself (`rowan run`); without `--record` it can be published all the same.'
  },
  KEY_MISSING: {
    meaning: 'A key that is needed for signing is not here.',
    advice: 'Bring it back with `rowan key import FILE`.'
  },
  KEY_INVALID: {
    meaning: 'A key file is damaged, of another kind, or readable by others.',
    advice: 'Restore it from your copy; keys must have mode 0600.'
  },
  KEY_EXISTS: {
    meaning: 'There is another root key here already.',
    advice: 'Export it first, then import with --replace.'
  },
  DELEGATION_EXPIRED: {
    meaning: 'The root key’s permission for the release key has run out.',
    advice: 'Import the root key and run `rowan key renew`.'
  },
  // Directory
  APPLIANCE_UNKNOWN: {
    meaning: 'Nobody who was asked knows this appliance.',
    advice: 'Check its name and that this peer has joined: `rowan status`.'
  },
  VERSION_UNKNOWN: {
    meaning: 'The appliance has no such version or channel.',
    advice: 'See `rowan releases APPLIANCE`.'
  },
  NOT_REPLICATED: {
    meaning: 'Nothing of this appliance is kept whole here by promise.',
    advice: 'See `rowan status`; only what `rowan replicate` promised can be taken back.'
  },
  LATEST_EXPIRED: {
    meaning: 'The newest signed record of the appliance has expired.',
    advice: 'Wait for the publisher, or accept it with --allow-expired.'
  },
  LATEST_ROLLBACK: {
    meaning: 'Only a record older than one seen before was offered.',
    advice: 'Somebody may be replaying old records; try again later.'
  },
  LATEST_CONFLICT: {
    meaning: 'Two different records carry the same sequence number; both are refused.',
    advice: 'The publisher must publish again.'
  },
  NO_PEERS: {
    meaning: 'No peer of the network could be reached.',
    advice: 'Start with `rowan up --bootstrap ADDRESS`, and see `rowan doctor`.'
  },
  DIRECTORY_REFUSED: { meaning: 'A holder refused a record.', advice: 'The message says why.' },
  ALIAS_TAKEN: { meaning: 'The local name stands for another appliance.', advice: 'Choose another alias.' },
  // Swarm
  NO_REPLICA: {
    meaning: 'No replica with the wanted block can be reached.',
    advice: 'Wait for a replica to come back; the request goes on when one does.'
  },
  WIRE_INVALID: { meaning: 'A peer broke the protocol.', advice: 'Nothing: the peer is dropped and another is asked.' },
  TIMEOUT_DIAL: { meaning: 'A peer did not answer the call in time.', advice: 'Nothing: another is asked.' },
  TIMEOUT_RESPONSE: { meaning: 'A peer did not answer a request in time.', advice: 'Nothing: another is asked.' },
  PEER_GONE: { meaning: 'A peer left in the middle of a request.', advice: 'Nothing: another is asked.' },
  WEB_SEED_URL_INVALID: {
    meaning: 'A URL cannot be a web seed, or there are too many.',
    advice: 'Write it like `https://example.org/images/`: no user, no query; four at most.',
    exit: 2
  },
  WEB_SEED_ADDRESS: {
    meaning: 'A web seed leads to an address that this peer may not call: private, loopback or link-local.',
    advice: 'Nothing: others are asked. Such an address is called only by a peer that met its network there.'
  },
  WEB_SEED_UNREACHABLE: {
    meaning: 'A web seed cannot be reached, or broke off.',
    advice: 'Nothing: others are asked, and it is tried again later.'
  },
  GATEWAY_REFUSED: {
    meaning: 'The router of this network does not give a port away, or answers what cannot be used.',
    advice:
      'Nothing: relays are used instead. Allow UPnP in the router, or forward a port and name it with `--announce`.'
  },
  WEB_SEED_REFUSED: {
    meaning:
      'A web seed answered what cannot be used: a redirection elsewhere, another status, length, range or encoding.',
    advice: 'If it is yours: the server must answer ranges (206) with the bytes as they are.'
  },
  WEB_SEED_INVALID: {
    meaning: 'The range index of a pack is damaged.',
    advice: 'If it is yours: write it again with `rowan export --web`. Peers that saw it do not ask it for a month.'
  },
  IMAGE_INCOMPLETE: {
    meaning: 'Part of an image is not here, so it cannot be written out.',
    advice: 'Complete it first: `rowan replicate APPLIANCE --wait`.'
  },
  // Disk and NBD
  OUT_OF_RANGE: {
    meaning: 'A request reaches past the end of the disk.',
    advice: 'Nothing: the guest is told.',
    nbd: 'EINVAL'
  },
  READ_ONLY: {
    meaning: 'A write to a disk that is attached read-only.',
    advice: 'Attach without --read-only.',
    nbd: 'EPERM'
  },
  NOT_FAST: {
    meaning: 'Zeros cannot be written faster here than any data.',
    advice: 'Nothing: the guest writes zeros.',
    nbd: 'ENOTSUP'
  },
  LAYERS_FULL: {
    meaning: 'The layers of a machine have reached their quota.',
    advice: 'Discard snapshots, trim the disk in its guest (`fstrim`), or raise `[machine] layerQuota`.',
    nbd: 'ENOSPC'
  },
  LAYER_FAILED: {
    meaning: 'The layer could not make writes durable, and takes no more.',
    advice: 'Check the disk, then detach and attach the machine.'
  },
  LAYER_CORRUPT: {
    meaning: 'A layer’s files are damaged, cut short, or another machine’s.',
    advice: 'Restore them from a copy, or remove the machine.'
  },
  LAYER_IN_USE: { meaning: 'A layer is open already.', advice: 'Nothing: its machine is attached.' },
  DISK_DIED: {
    meaning: 'The thread that served a machine’s disk has failed.',
    advice: 'Nothing acknowledged is lost; a disk that is not served again by itself is by `rowan attach MACHINE`.'
  },
  DISK_STUCK: {
    meaning: 'The disk of a machine does not end what was asked of it: the host’s disk below it does not answer.',
    advice:
      'Look at the host’s disk. Nothing acknowledged is lost, and nobody else can open it; it goes on by itself, and `rowan detach MACHINE` says whether it has ended.'
  },
  DISK_CLOSED: { meaning: 'The disk is closed.', advice: 'Attach the machine again.', nbd: 'ESHUTDOWN' },
  NBD_PROTOCOL: { meaning: 'An NBD client broke the protocol.', advice: 'Nothing: its connection is closed.' },
  TLS_INVALID: {
    meaning: 'What TLS needs is missing, damaged, or readable by others.',
    advice: 'The message names the file; see `[nbd] tlsFolder` in docs/CONFIG.md.'
  },
  SOCKET_PATH_TOO_LONG: {
    meaning: 'A socket’s path is longer than the system allows.',
    advice: 'Choose a shorter --home.'
  },
  // Machines
  MACHINE_UNKNOWN: {
    meaning: 'There is no machine of this name.',
    advice: 'See `rowan status`; make one with `rowan attach`.'
  },
  MACHINE_DIFFERS: {
    meaning: 'A machine of this name exists with another appliance or version.',
    advice: 'Choose another name with --as, or remove the machine.'
  },
  MACHINE_CORRUPT: {
    meaning: 'A machine’s description is damaged.',
    advice: 'Restore it from a copy, or remove the machine.'
  },
  SNAPSHOT_UNKNOWN: {
    meaning: 'The machine has no snapshot of this name.',
    advice: 'See `rowan snapshots MACHINE`.'
  },
  MACHINE_RUNNING: { meaning: 'The machine is in use.', advice: 'Stop its guest first.' },
  NETWORK_UNAVAILABLE: {
    meaning: 'The guest’s network cannot be had in the mode asked for.',
    advice: 'Install the package that the message names, or use --net none.'
  },
  TCP_ADDRESS_INVALID: {
    meaning: 'An address to serve a disk at was not understood.',
    advice: 'Write it like `10809`, `192.0.2.7:10809` or `[2001:db8::7]:10809`.',
    exit: 2
  },
  // Daemon and its control
  DAEMON_NOT_RUNNING: {
    meaning: 'No daemon answers for this home.',
    advice: 'Start it with `rowan up`, in another terminal.'
  },
  LISTEN_FAILED: {
    meaning: 'An address or socket to listen on cannot be had.',
    advice: 'Choose another; see the message.'
  },
  CONFIG_INVALID: {
    meaning: 'The configuration has an unknown key or a value of a wrong kind.',
    advice: 'See docs/CONFIG.md.',
    exit: 2
  },
  REQUEST_INVALID: {
    meaning: 'A control request was not understood.',
    advice: 'Use the command line of the same version.'
  }
} as const satisfies Record<string, ErrorKind>

export type ErrorCode = keyof typeof ERRORS

export class RowanError extends Error {
  override readonly name = 'RowanError'
  readonly code: ErrorCode

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.code = code
  }
}

/** The kind of a code, with what is optional spelled out. */
export function errorKind(code: ErrorCode): ErrorKind {
  return ERRORS[code]
}

/** A RowanError as it is; a full disk as DISK_FULL; anything else under `code`, with its cause kept. */
export function asRowanError(error: unknown, code: ErrorCode = 'INTERNAL', doing?: string): RowanError {
  if (error instanceof RowanError) return error
  const cause = error instanceof Error ? error : new Error(String(error))
  const says = doing === undefined ? cause.message : `${doing}: ${cause.message}`
  const system = 'code' in cause ? cause.code : undefined
  if (system === 'ENOSPC' || system === 'EDQUOT') return new RowanError('DISK_FULL', says, { cause })
  if (cause.name === 'AbortError') return new RowanError('ABORTED', says, { cause })
  return new RowanError(code, says, { cause })
}
