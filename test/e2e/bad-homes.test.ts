/**
 * Homes that are full, taken, damaged or too far away: one clear line each, and what was kept is kept.
 */
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { errorCode, Peer, rowan } from '../tools/peers.ts'
import { endProcesses, run, runOk } from '../tools/processes.ts'
import { makeTinyAppliance } from '../tools/tiny-appliance.ts'

const MIB = 1024 * 1024
/** The pool leaves 64 MiB of the disk free; 48 MiB are what it can take of an image with 72 MiB of data. */
const SMALL_DISK_MIB = 64 + 48
const mounted: string[] = []

afterEach(async () => {
  await endProcesses()
  for (const folder of mounted.splice(0)) await runOk('umount', [folder])
  await removeFolders()
})

/** A folder on a small disk of its own. */
async function smallDisk(mebibytes: number): Promise<string> {
  const folder = join(await temporaryFolder(), 'd')
  await mkdir(folder)
  await runOk('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m,mode=0700`, 'rowan-test', folder])
  mounted.push(folder)
  return folder
}

async function canMount(): Promise<boolean> {
  if (process.getuid?.() !== 0) return false
  const tried = await run('unshare', ['-m', 'mount', '-t', 'tmpfs', 'rowan-test', '/mnt'])
  return tried.status === 0
}

describe.skipIf(!(await canMount()))('a full disk', () => {
  test('in the middle of publishing: nothing is released, and what was published stays', async () => {
    const images = await temporaryFolder()
    await makeTinyAppliance(join(images, 'large.raw'), { sizeBytes: 96 * MIB })
    await makeTinyAppliance(join(images, 'small.raw'), { sizeBytes: 4 * MIB, seed: 5 })
    const peer = await Peer.start({ home: await smallDisk(SMALL_DISK_MIB) })
    await peer.json(['publish', join(images, 'small.raw'), 'small@v1'])
    const result = await peer.run(['publish', join(images, 'large.raw'), 'large@v1'])
    expect(errorCode(result)).toBe('DISK_FULL')
    expect(result.status).toBe(1)
    const unknown = await peer.run(['releases', 'large'])
    expect(unknown.status).toBe(1)
    // The same again says the same: nothing is left behind that grows with each try.
    expect(errorCode(await peer.run(['publish', join(images, 'large.raw'), 'large@v1']))).toBe('DISK_FULL')
    expect((await peer.json(['status'])).pool.blocks).toBeLessThan(48 * 16)
    const again = await peer.json(['publish', join(images, 'small.raw'), 'small@v1'])
    expect(again.newBlocks).toBe(0)
    await peer.stop()
  })

  test('in the middle of fetching: an error, and the daemon and its machines go on', async () => {
    const images = await temporaryFolder()
    await makeTinyAppliance(join(images, 'large.raw'), { sizeBytes: 96 * MIB })
    const publisher = await Peer.start()
    await publisher.json(['publish', join(images, 'large.raw'), 'grid@v1'])
    const volunteer = await Peer.start({ home: await smallDisk(SMALL_DISK_MIB), bootstrap: [publisher] })
    const grid = `${publisher.publisher}/grid`
    const result = await volunteer.run(['replicate', grid, '--wait'])
    expect(errorCode(result)).toBe('DISK_FULL')
    expect(result.status).toBe(1)
    const status = await volunteer.json(['status'])
    expect(status.pool.blocks).toBeGreaterThan(100)
    await volunteer.stop()
    await volunteer.up()
    expect((await volunteer.json(['status'])).pool.blocks).toBeGreaterThan(100)
  })
})

test('a second daemon on the same home', async () => {
  const peer = await Peer.start()
  const result = await rowan(['up', '--home', peer.home, '--listen', '/ip4/127.0.0.1/tcp/0'])
  expect(errorCode(result)).toBe('HOME_IN_USE')
  expect(result.status).toBe(1)
  expect(result.stderr).toContain(peer.home)
  expect((await peer.json(['status'])).peer).toBe(peer.id)
})

test('a damaged catalog: said clearly, repaired on request, blocks and keys kept', async () => {
  const folder = await temporaryFolder()
  await makeTinyAppliance(join(folder, 'tiny.raw'))
  const peer = await Peer.start()
  const published = await peer.json(['publish', join(folder, 'tiny.raw'), 'grid@v1'])
  await peer.stop()

  const catalog = join(peer.home, 'catalog')
  for (const name of await readdir(catalog)) {
    if (name.startsWith('MANIFEST')) await writeFile(join(catalog, name), 'this is no manifest')
  }
  const result = await rowan(['up', '--home', peer.home, '--listen', '/ip4/127.0.0.1/tcp/0'])
  expect(errorCode(result)).toBe('CATALOG_CORRUPT')
  expect(result.status).toBe(1)

  const repaired = await rowan(['doctor', '--repair', '--home', peer.home])
  expect(repaired.status, repaired.stderr).toBe(0)
  await peer.up()
  const again = await peer.json(['publish', join(folder, 'tiny.raw'), 'grid@v1'])
  expect(again.image).toBe(published.image)
  expect(peer.publisher).toBe(published.appliance.split('/')[0])
})

test('a home whose sockets would have too long a path', async () => {
  const home = join(await temporaryFolder(), 'h'.repeat(110))
  for (const command of [['up', '--listen', '/ip4/127.0.0.1/tcp/0'], ['status']]) {
    const result = await rowan([...command, '--home', home])
    expect(errorCode(result)).toBe('SOCKET_PATH_TOO_LONG')
    expect(result.status).toBe(1)
    expect(result.stderr).toMatch(/10[37]/)
  }
})

test('no daemon: the command says how to start one', async () => {
  const result = await rowan(['status', '--home', await temporaryFolder()])
  expect(errorCode(result)).toBe('DAEMON_NOT_RUNNING')
  expect(result.status).toBe(1)
  expect(result.stderr).toContain('rowan up')
})

test('an unknown key in config.toml: the nearest known one is named', async () => {
  const home = await temporaryFolder()
  await writeFile(join(home, 'config.toml'), '[directory]\nlatestTTL = "30m"\n')
  const result = await rowan(['up', '--home', home, '--listen', '/ip4/127.0.0.1/tcp/0'])
  expect(errorCode(result)).toBe('CONFIG_INVALID')
  expect(result.status).toBe(2)
  expect(result.stderr).toContain('latestTtl')
})

test('wrong usage has exit status 2', async () => {
  for (const args of [['fly'], ['publish'], ['attach'], ['status', '--fast'], []]) {
    const result = await rowan(args)
    expect(result.status, `rowan ${args.join(' ')}`).toBe(2)
    expect(result.stdout).toBe('')
  }
})
