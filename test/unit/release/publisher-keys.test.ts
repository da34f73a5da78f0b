import { chmod, copyFile, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { generateKeyPair, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import { peerIdFromString } from '@libp2p/peer-id'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openDelegation } from '../../../src/image/release.ts'
import { readKeyFile } from '../../../src/release/key-file.ts'
import { DELEGATION_LIFETIME_MS, PublisherKeys } from '../../../src/release/publisher-keys.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { ManualClock } from './support/clock.ts'
import { MemoryLog } from './support/log.ts'

let folder: string
let keysFolder: string
let clock: ManualClock
let log: MemoryLog

beforeEach(async () => {
  folder = await temporaryFolder()
  keysFolder = join(folder, 'keys')
  clock = new ManualClock()
  log = new MemoryLog()
})

afterEach(removeFolders)

const openKeys = () => PublisherKeys.open(keysFolder, { clock, log })
const file = (name: string) => join(keysFolder, name)
const modeOf = async (path: string) => (await stat(path)).mode & 0o7777

test('the first use makes root key, release key and delegation, for their owner only', async () => {
  const keys = await openKeys()
  expect(peerIdFromString(keys.publisher).type).toBe('Ed25519')
  expect((await readdir(keysFolder)).sort()).toEqual(['delegation', 'release.key', 'root.key'])
  expect(await modeOf(keysFolder)).toBe(0o700)
  for (const name of ['delegation', 'release.key', 'root.key']) expect(await modeOf(file(name))).toBe(0o600)
  const delegation = await openDelegation(keys.delegation)
  expect(delegation).toMatchObject({
    publisher: keys.publisher,
    releaseKey: keys.releaseKey.publicKey.toString(),
    expiresMs: clock.now() + DELEGATION_LIFETIME_MS
  })
})

test('the keys are the same after a restart', async () => {
  const first = await openKeys()
  const second = await openKeys()
  expect(second.publisher).toBe(first.publisher)
  expect(second.releaseKey.equals(first.releaseKey)).toBe(true)
  expect(Buffer.from(second.delegation)).toEqual(Buffer.from(first.delegation))
})

test('without the root key publishing goes on until the delegation expires', async () => {
  const { publisher } = await openKeys()
  await rm(file('root.key'))
  const keys = await openKeys()
  expect(keys.publisher).toBe(publisher)
  expect(keys.show().rootKey).toBe('elsewhere')
  clock.advance(DELEGATION_LIFETIME_MS - 1)
  expect((await keys.signing()).expiresMs).toBe(clock.now() + 1)
  clock.advance(1)
  await expect(keys.signing()).rejects.toMatchObject({ code: 'DELEGATION_EXPIRED' })
  // Still known, for what was published before.
  expect((await openKeys()).publisher).toBe(publisher)
})

test('with the root key the delegation is renewed long before it expires, for the same release key', async () => {
  const keys = await openKeys()
  const before = await openDelegation(keys.delegation)
  clock.advance(DELEGATION_LIFETIME_MS * 0.4)
  await keys.signing()
  expect(keys.delegation).toHaveLength((await readFile(file('delegation'))).length)
  expect((await openDelegation(keys.delegation)).issuedMs).toBe(before.issuedMs)
  clock.advance(DELEGATION_LIFETIME_MS * 0.2)
  const { delegation } = await keys.signing()
  const after = await openDelegation(delegation)
  expect(after).toMatchObject({ releaseKey: before.releaseKey, sequence: before.sequence, issuedMs: clock.now() })
  expect(await readFile(file('delegation'))).toEqual(Buffer.from(delegation))
})

test('what is missing is made again by the root key, with a higher number', async () => {
  const keys = await openKeys()
  const before = await openDelegation(keys.delegation)
  await rm(file('release.key'))
  clock.advance(1000)
  const again = await openKeys()
  const after = await openDelegation(again.delegation)
  expect(again.publisher).toBe(keys.publisher)
  expect(after.releaseKey).not.toBe(before.releaseKey)
  expect(after.sequence).toBeGreaterThan(before.sequence)

  await rm(file('delegation'))
  clock.advance(1000)
  const third = await openDelegation((await openKeys()).delegation)
  expect(third.sequence).toBeGreaterThan(after.sequence)
})

test('a release key alone cannot say whose it is', async () => {
  await openKeys()
  await rm(file('root.key'))
  await rm(file('delegation'))
  await expect(openKeys()).rejects.toMatchObject({ code: 'KEY_MISSING' })
})

test('without release key and root key nothing is signed', async () => {
  await openKeys()
  await rm(file('root.key'))
  await rm(file('release.key'))
  const keys = await openKeys()
  await expect(keys.signing()).rejects.toMatchObject({ code: 'KEY_MISSING' })
  expect(() => keys.exportText()).toThrow(expect.objectContaining({ code: 'KEY_MISSING' }))
  await expect(keys.renew()).rejects.toMatchObject({ code: 'KEY_MISSING' })
  await expect(keys.rotate()).rejects.toMatchObject({ code: 'KEY_MISSING' })
})

describe('refused with KEY_INVALID', () => {
  test.each([
    ['root.key', 0o640],
    ['release.key', 0o604],
    ['delegation', 0o620]
  ])('%s with mode %o', async (name, mode) => {
    await openKeys()
    await chmod(file(name), mode)
    await expect(openKeys()).rejects.toMatchObject({ code: 'KEY_INVALID', message: expect.stringContaining(name) })
  })

  test('a folder that others may enter', async () => {
    await openKeys()
    await chmod(keysFolder, 0o750)
    await expect(openKeys()).rejects.toMatchObject({ code: 'KEY_INVALID' })
  })

  test('a key of another purpose', async () => {
    await openKeys()
    await copyFile(file('release.key'), file('root.key'))
    await expect(openKeys()).rejects.toMatchObject({
      code: 'KEY_INVALID',
      message: expect.stringContaining('release key')
    })
  })

  test('a key of another type', async () => {
    await openKeys()
    const other = await generateKeyPair('secp256k1')
    await writeFile(
      file('root.key'),
      `rowan-root-key 1 ${Buffer.from(privateKeyToProtobuf(other)).toString('base64')}\n`
    )
    await expect(openKeys()).rejects.toMatchObject({
      code: 'KEY_INVALID',
      message: expect.stringContaining('secp256k1')
    })
  })

  test('any single damaged character of the key', async () => {
    await openKeys()
    const text = await readFile(file('root.key'), 'utf8')
    for (let at = 0; at < text.length - 1; at++) {
      const other = text[at] === 'A' ? 'B' : 'A'
      await writeFile(file('root.key'), text.slice(0, at) + other + text.slice(at + 1))
      await expect(openKeys(), `character ${at}`).rejects.toMatchObject({ code: 'KEY_INVALID' })
    }
  })

  test('another spelling of the same key', async () => {
    await openKeys()
    const text = await readFile(file('root.key'), 'utf8')
    const last = text.trimEnd().replace(/=*$/, '').length - 1
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
    // The lowest bit of the last letter is one that the decoder ignores.
    const other = alphabet[alphabet.indexOf(text[last]!) ^ 1]!
    await writeFile(file('root.key'), text.slice(0, last) + other + text.slice(last + 1))
    await expect(openKeys()).rejects.toMatchObject({ code: 'KEY_INVALID' })
  })

  test.each([
    ['words', 'no key'],
    ['nothing', ''],
    ['a later format', 'rowan-root-key 2 AAAA'],
    ['far too much', 'x'.repeat(5000)]
  ])('a file with %s in it', async (_what, text) => {
    await openKeys()
    await writeFile(file('root.key'), text)
    await expect(openKeys()).rejects.toMatchObject({ code: 'KEY_INVALID' })
  })

  test('a damaged delegation without the root key; with it, a new one is signed', async () => {
    const before = await openDelegation((await openKeys()).delegation)
    const bytes = await readFile(file('delegation'))
    bytes[bytes.length - 1]! ^= 1
    await writeFile(file('delegation'), bytes)
    const root = await readFile(file('root.key'))
    await rm(file('root.key'))
    await expect(openKeys()).rejects.toMatchObject({ code: 'KEY_INVALID' })
    await writeFile(file('root.key'), root, { mode: 0o600 })
    clock.advance(1)
    expect((await openDelegation((await openKeys()).delegation)).sequence).toBeGreaterThan(before.sequence)
    expect(log.warnings.join()).toContain('damaged')
  })

  test('a release key that the delegation is not for, without the root key', async () => {
    const keys = await openKeys()
    const oldDelegation = Buffer.from(keys.delegation)
    await keys.rotate()
    await writeFile(file('delegation'), oldDelegation)
    const root = await readFile(file('root.key'))
    await rm(file('root.key'))
    await expect(openKeys()).rejects.toMatchObject({ code: 'KEY_INVALID' })
    // As after a crash in the middle of rotate(): the root key brings them together again, above both.
    await writeFile(file('root.key'), root, { mode: 0o600 })
    clock.advance(1)
    const again = await openKeys()
    expect(await openDelegation(again.delegation)).toMatchObject({
      releaseKey: again.releaseKey.publicKey.toString()
    })
  })
})

test('rotating makes a new release key with a higher delegation, renewing keeps both', async () => {
  const keys = await openKeys()
  const first = await openDelegation(keys.delegation)
  clock.advance(5000)
  await keys.renew()
  const renewed = await openDelegation(keys.delegation)
  expect(renewed).toEqual({ ...first, issuedMs: clock.now(), expiresMs: clock.now() + DELEGATION_LIFETIME_MS })
  await keys.rotate()
  const rotated = await openDelegation(keys.delegation)
  expect(rotated.sequence).toBeGreaterThan(first.sequence)
  expect(rotated.releaseKey).not.toBe(first.releaseKey)
  // Two within one millisecond, or with a clock that was set back, still go up.
  clock = new ManualClock(0)
  const late = await openKeys()
  await late.rotate()
  expect((await openDelegation(late.delegation)).sequence).toBe(rotated.sequence + 1)
})

describe('copies of the root key', () => {
  test('an export is private, and never overwrites anything', async () => {
    const keys = await openKeys()
    const copy = join(folder, 'copy')
    await keys.exportRoot(copy)
    expect(await modeOf(copy)).toBe(0o600)
    expect((await readKeyFile(copy, 'root'))?.publicKey.toString()).toBe(keys.publisher)
    expect(await readFile(copy, 'utf8')).toBe(keys.exportText())
    await writeFile(copy, 'mine')
    await expect(keys.exportRoot(copy)).rejects.toMatchObject({ code: 'FILE_EXISTS' })
    expect(await readFile(copy, 'utf8')).toBe('mine')
    await expect(keys.exportRoot(join(folder, 'no', 'such', 'place'))).rejects.toMatchObject({
      code: 'FILE_UNWRITABLE'
    })
  })

  test('importing brings an exported publisher to another home, above its old delegations', async () => {
    const keys = await openKeys()
    const copy = join(folder, 'copy')
    await keys.exportRoot(copy)
    await chmod(copy, 0o644) // a stick without modes
    clock.advance(1000)
    const elsewhere = join(folder, 'elsewhere')
    const imported = await PublisherKeys.import(elsewhere, copy, { clock, log })
    expect(imported.publisher).toBe(keys.publisher)
    expect(await modeOf(join(elsewhere, 'root.key'))).toBe(0o600)
    const [old, now] = [await openDelegation(keys.delegation), await openDelegation(imported.delegation)]
    expect(now.sequence).toBeGreaterThan(old.sequence)
  })

  test('the root key comes back to where it was taken from, and the release key stays', async () => {
    const keys = await openKeys()
    const copy = join(folder, 'copy')
    await keys.exportRoot(copy)
    await rm(file('root.key'))
    const orphan = await openKeys()
    clock.advance(DELEGATION_LIFETIME_MS)
    await orphan.importRoot(copy)
    expect((await orphan.signing()).releaseKey.equals(keys.releaseKey)).toBe(true)
    await orphan.importRoot(copy) // again: no change
    expect(orphan.publisher).toBe(keys.publisher)
  })

  test("another publisher's root key needs --replace, and gets a release key of its own", async () => {
    const copy = join(folder, 'copy')
    const other = await PublisherKeys.open(join(folder, 'other'), { clock, log })
    await other.exportRoot(copy)
    const keys = await openKeys()
    const before = keys.publisher
    await expect(keys.importRoot(copy)).rejects.toMatchObject({
      code: 'KEY_EXISTS',
      message: expect.stringContaining(before)
    })
    expect((await openKeys()).publisher).toBe(before)
    const oldRelease = keys.releaseKey
    await keys.importRoot(copy, { replace: true })
    expect(keys.publisher).toBe(other.publisher)
    expect(keys.releaseKey.equals(oldRelease)).toBe(false)
    expect((await openKeys()).publisher).toBe(other.publisher)
  })

  test('importing what is no root key changes nothing', async () => {
    const keys = await openKeys()
    const root = await readFile(file('root.key'))
    await expect(keys.importRoot(file('release.key'))).rejects.toMatchObject({ code: 'KEY_INVALID' })
    await expect(keys.importRoot(join(folder, 'none'))).rejects.toMatchObject({ code: 'KEY_MISSING' })
    expect(await readFile(file('root.key'))).toEqual(root)
  })

  test('keys that are broken can be replaced by an import', async () => {
    const keys = await openKeys()
    const copy = join(folder, 'copy')
    await keys.exportRoot(copy)
    await writeFile(file('root.key'), 'broken')
    await expect(PublisherKeys.import(keysFolder, copy, { clock, log })).rejects.toMatchObject({ code: 'KEY_INVALID' })
    const again = await PublisherKeys.import(keysFolder, copy, { clock, log }, { replace: true })
    expect(again.publisher).toBe(keys.publisher)
    expect((await openKeys()).publisher).toBe(keys.publisher)
  })
})
