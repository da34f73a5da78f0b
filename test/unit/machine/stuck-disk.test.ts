/**
 * A machine whose disk does not end what was asked of it, because the host's disk does not answer: what others are told
 * meanwhile, and that nothing is lost when it answers at last.
 */
import { execFileSync } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { MAX_CALLS } from '../../../src/machine/disk-messages.ts'
import { CLOSE_TIMEOUT_MS } from '../../../src/machine/disk-thread.ts'
import { COMMAND } from '../../../src/nbd/protocol.ts'
import { systemClock } from '../../../src/node/system.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { NbdClient } from '../../tools/nbd-client.ts'
import { waitUntil } from '../../tools/wait.ts'
import { threadOf } from './threads/served.ts'
import { Peer, World } from './world.ts'

/** What a minute is here: short while nothing is to happen in it. */
let minuteMs = CLOSE_TIMEOUT_MS
const clock = {
  ...systemClock,
  after: (delayMs: number, run: () => void) => systemClock.after(delayMs === CLOSE_TIMEOUT_MS ? minuteMs : delayMs, run)
}

let world: World
let peer: Peer
let pipe: string
let writer: number | undefined

beforeEach(async () => {
  const home = await temporaryFolder()
  pipe = join(home, 'pipe')
  execFileSync('mkfifo', [pipe])
  process.env.HANG = pipe
  world = new World()
  peer = await Peer.start(home, world, { startThread: threadOf('./stuck-disk-thread.ts'), clock })
  for (const name of ['bad', 'good']) await peer.machines.attach({ name, ref: 'grid' })
})

afterEach(async () => {
  answers()
  await peer.stop().finally(() => {
    closeSync(writer!)
    writer = undefined
  })
  await removeFolders()
})

/** From now on nothing waits any more. */
function answers(): void {
  minuteMs = CLOSE_TIMEOUT_MS
  writer ??= openSync(pipe, 'r+')
}

/** The disk does not answer any more, and whoever waits for it has not long to wait. */
async function sticks(name: string): Promise<void> {
  await write(name, 'STUCK')
  minuteMs = 500
}

async function write(name: string, word: string, offset = 0): Promise<void> {
  const client = await NbdClient.open(peer.socket(name), name)
  expect((await client.request(COMMAND.WRITE, { offset, data: Buffer.alloc(512, word) })).errno).toBe(0)
  await client.disconnect()
}

async function read(name: string): Promise<string> {
  const client = await NbdClient.open(peer.socket(name), name)
  const bytes = await client.bytes(0, 5)
  await client.disconnect()
  return bytes.toString()
}

const stuck = expect.objectContaining({ code: 'DISK_STUCK' })
const state = async (name: string) => (await peer.machines.status()).find(each => each.name === name)!

test('is detached with DISK_STUCK, is nobody else’s meanwhile, and has lost nothing once its disk answers', async () => {
  await sticks('bad')
  await expect(peer.machines.detach('bad')).rejects.toEqual(stuck)
  expect(peer.machines.served()).toEqual(['good'])
  await expect(peer.machines.attach({ name: 'bad' })).rejects.toEqual(stuck)
  await expect(peer.machines.snapshot('bad', '')).rejects.toEqual(stuck)
  await expect(peer.machines.remove('bad', { force: true })).rejects.toEqual(stuck)
  await expect(peer.machines.detach('bad')).rejects.toEqual(stuck)
  expect(await state('bad')).toMatchObject({ attached: false, error: { code: 'DISK_STUCK' } })
  await write('good', 'others')
  answers()
  await peer.machines.detach('bad')
  expect(await state('bad')).not.toHaveProperty('error')
  await peer.machines.attach({ name: 'bad' })
  expect(await read('bad')).toBe('STUCK')
})

test('and that is to stay attached is served again by itself when its disk answers', async () => {
  await sticks('bad')
  // To be served otherwise it is closed first.
  await expect(peer.machines.attach({ name: 'bad', dataBytes: 2 ** 20 })).rejects.toEqual(stuck)
  expect(await state('bad')).toMatchObject({ attached: false, error: { code: 'DISK_STUCK' } })
  answers()
  await waitUntil('the machine', async () => (await state('bad')).attached)
  expect(await read('bad')).toBe('STUCK')
  expect(await state('bad')).not.toHaveProperty('error')
})

test('in the midst of a snapshot keeps nobody waiting who wants it detached', async () => {
  await sticks('bad')
  const snapshot = peer.machines.snapshot('bad', '')
  await expect(peer.machines.detach('bad')).rejects.toEqual(stuck)
  answers()
  expect(await snapshot).toMatchObject({ name: 's1' })
  expect(await read('bad')).toBe('STUCK')
  await peer.machines.detach('bad')
})

test('does not keep the daemon from stopping', async () => {
  await peer.machines.detach('good')
  await sticks('bad')
  void peer.machines.snapshot('bad', '').catch(() => undefined)
  await expect(peer.machines.stop()).rejects.toEqual(stuck)
})

test('is closed in order, however often its numbers were asked for while its thread waited', async () => {
  await write('bad', 'BLOCK')
  minuteMs = 4000
  await new Promise(resolve => setTimeout(resolve, 100))
  const asked = Array.from({ length: MAX_CALLS + 1 }, () => peer.machines.status())
  const detached = peer.machines.detach('bad').catch((error: unknown) => error)
  await Promise.all(asked)
  answers()
  expect([undefined, stuck]).toContainEqual(await detached)
  await peer.machines.detach('bad')
  expect(peer.log.join('')).not.toContain('LIMIT_EXCEEDED')
  await peer.machines.attach({ name: 'bad' })
  expect(await read('bad')).toBe('BLOCK')
})
