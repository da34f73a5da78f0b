/**
 * A private key as a file: one line of text, so that it survives a terminal, a printout and a mail to oneself.
 *
 *     rowan-root-key 1 CAESQ…==
 *
 * The first word says what the key is for, so that one is never taken for another; then the format's version and the
 * libp2p protobuf of an Ed25519 key in base64. Such a file must belong to nobody but its owner: mode 0600.
 */
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { generateKeyPairFromSeed, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import type { Ed25519PrivateKey } from '@libp2p/interface'
import { asRowanError, RowanError } from '../errors.ts'
import { createFile, replaceFile } from '../store/durable-file.ts'

export type KeyPurpose = 'root' | 'release' | 'peer' | 'sharer'

const FORMAT_VERSION = '1'
const SEED_BYTES = 32
/** A key file has about 110 bytes; nothing longer is read. */
const MAX_KEY_FILE_BYTES = 1024

/** The line that a key file holds, with its line end. */
export function keyToText(purpose: KeyPurpose, key: Ed25519PrivateKey): string {
  return `rowan-${purpose}-key ${FORMAT_VERSION} ${Buffer.from(privateKeyToProtobuf(key)).toString('base64')}\n`
}

/**
 * @param from - how to call the source in errors
 * @throws RowanError KEY_INVALID
 */
export async function keyFromText(purpose: KeyPurpose, text: string, from: string): Promise<Ed25519PrivateKey> {
  const match = /^rowan-([a-z]+)-key ([0-9]+) ([A-Za-z0-9+/]+={0,2})\s*$/.exec(text)
  if (match === null) throw new RowanError('KEY_INVALID', `${from} is not a key file of rowan`)
  const [, kind, version, base64] = match as unknown as [string, string, string, string]
  if (kind !== purpose) throw new RowanError('KEY_INVALID', `${from} holds a ${kind} key, not a ${purpose} key`)
  if (version !== FORMAT_VERSION) throw new RowanError('KEY_INVALID', `${from} has the unknown format ${version}`)
  let key: ReturnType<typeof privateKeyFromProtobuf>
  try {
    key = privateKeyFromProtobuf(Buffer.from(base64, 'base64'))
  } catch (cause) {
    throw new RowanError('KEY_INVALID', `${from} is damaged`, { cause })
  }
  if (key.type !== 'Ed25519')
    throw new RowanError('KEY_INVALID', `${from} holds a key of type ${key.type}, not Ed25519`)
  // The file carries the public half too; a flipped bit in either shows as a difference, instead of as a new identity.
  const derived = await generateKeyPairFromSeed('Ed25519', key.raw.subarray(0, SEED_BYTES))
  if (!derived.equals(key))
    throw new RowanError('KEY_INVALID', `${from} is damaged: its two halves do not belong together`)
  // Base64 has bits at its end that mean nothing; what the encoder would not have written is damaged too.
  if (keyToText(purpose, key).trimEnd() !== text.trimEnd()) {
    throw new RowanError('KEY_INVALID', `${from} is damaged: a key is written in one way only`)
  }
  return key
}

/**
 * Reads a private file that is at most `maxBytes` long and for its owner only.
 *
 * @returns undefined when there is none
 * @throws RowanError KEY_INVALID: readable or writable by others, too long, or no regular file
 */
export async function readPrivateFile(
  path: string,
  maxBytes: number,
  options: { anyMode?: boolean } = {}
): Promise<Buffer | undefined> {
  let file: Awaited<ReturnType<typeof open>>
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw asRowanError(error, 'KEY_INVALID', `cannot open ${path}`)
  }
  try {
    const stats = await file.stat()
    if (!stats.isFile()) throw new RowanError('KEY_INVALID', `${path} is not a regular file`)
    if (options.anyMode !== true) checkPrivate(path, stats.mode)
    const bytes = Buffer.alloc(maxBytes + 1)
    const { bytesRead } = await file.read(bytes, 0, bytes.length, 0)
    if (bytesRead > maxBytes) throw new RowanError('KEY_INVALID', `${path} has more than ${maxBytes} bytes`)
    return bytes.subarray(0, bytesRead)
  } catch (error) {
    throw asRowanError(error, 'KEY_INVALID', `cannot read ${path}`)
  } finally {
    await file.close()
  }
}

/** @throws RowanError KEY_INVALID when group or others may do anything with what has this mode */
export function checkPrivate(path: string, mode: number): void {
  if (process.platform === 'win32' || (mode & 0o077) === 0) return
  const octal = (mode & 0o7777).toString(8).padStart(4, '0')
  throw new RowanError(
    'KEY_INVALID',
    `${path} has mode ${octal}: others on this host may use it; run chmod go= ${path}`
  )
}

/**
 * @returns undefined when the file does not exist
 * @throws RowanError KEY_INVALID
 */
export async function readKeyFile(
  path: string,
  purpose: KeyPurpose,
  options: { anyMode?: boolean } = {}
): Promise<Ed25519PrivateKey | undefined> {
  const bytes = await readPrivateFile(path, MAX_KEY_FILE_BYTES, options)
  return bytes === undefined ? undefined : keyFromText(purpose, bytes.toString('latin1'), path)
}

/** Writes a key with mode 0600, whole or not at all, replacing the one that is there. */
export async function writeKeyFile(path: string, purpose: KeyPurpose, key: Ed25519PrivateKey): Promise<void> {
  await replaceFile(path, Buffer.from(keyToText(purpose, key)))
}

/** @throws RowanError FILE_EXISTS: a copy of a key never overwrites anything */
export async function createKeyFile(path: string, purpose: KeyPurpose, key: Ed25519PrivateKey): Promise<void> {
  await createFile(path, Buffer.from(keyToText(purpose, key)))
}
