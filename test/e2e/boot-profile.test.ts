/**
 * A release that comes with the profile of its boot: recorded by the publisher, handed on by a replica, followed by a volunteer.
 *
 * With the tiny appliance, whose guest reads the same sectors in the same order each time.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { boot, DISK_TROUBLE, type Guest } from '../tools/boot.ts'
import { hashFile } from '../tools/files.ts'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { Peer, ROWAN } from '../tools/peers.ts'
import { endProcesses, start } from '../tools/processes.ts'
import { makeTinyAppliance } from '../tools/tiny-appliance.ts'
import { waitUntil } from '../tools/wait.ts'

const SIZE_BYTES = 64 * 1024 * 1024

describe('a release with a boot profile', () => {
  let publisher: Peer
  let replica: Peer
  let volunteer: Peer
  let guest: Guest
  const bootOf = async (peer: Peer) => (await peer.json(['status'])).machines[0]!.boot!

  beforeAll(async () => {
    publisher = await Peer.start()
    replica = await Peer.start({ bootstrap: [publisher] })
  })

  afterAll(async () => {
    await endProcesses()
    await removeFolders()
  })

  test('is recorded by the publisher, in a machine of which nothing is left', async () => {
    const image = join(await temporaryFolder(), 'tiny.raw')
    await makeTinyAppliance(image, { sizeBytes: SIZE_BYTES, reads: 200, writes: 10 })
    const before = await hashFile(image)
    const published = await publisher.json(['publish', image, 'grid@v1', '--record'], { timeoutMs: 300_000 })
    expect(published).toMatchObject({ version: 'v1', profile: true })
    expect(await hashFile(image)).toBe(before)
    expect((await publisher.json(['status'])).machines).toEqual([])
  })

  test('a recording whose daemon is killed leaves no guest behind', async () => {
    const image = join(await temporaryFolder(), 'tiny.raw')
    await makeTinyAppliance(image, { sizeBytes: SIZE_BYTES, reads: 200, writes: 10, version: 'other' })
    const unlucky = await Peer.start()
    const pid = unlucky.process.pid!
    const publishing = unlucky.run(['publish', image, 'grid@v1', '--record'], { timeoutMs: 300_000 })
    const children = async () =>
      (await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')).split(' ').filter(Boolean)
    const commandOf = (child: string) => readFile(`/proc/${child}/cmdline`, 'utf8').catch(() => '')
    const guest = await waitUntil(
      'a guest',
      async () => {
        for (const child of await children())
          if ((await commandOf(child)).includes('\0-name\0recording\0')) return child
        return undefined
      },
      { details: () => unlucky.process.tail() }
    )
    // The daemon alone, not the processes that it started.
    process.kill(pid, 'SIGKILL')
    await waitUntil('the guest to be gone', async () => (await commandOf(guest)) === '')
    expect((await publishing).status).toBe(1)
  })

  test('a replica hands it on, though it has never booted it and the publisher is gone', async () => {
    const answer = await replica.json(['replicate', `${publisher.publisher}/grid`, '--wait'])
    expect(answer).toMatchObject({ version: 'v1', complete: true })
    await publisher.kill()
    volunteer = await Peer.start({ bootstrap: [replica] })
    const { uri } = await volunteer.json(['attach', `${publisher.publisher}/grid`, '--as', 'm'])
    await waitUntil('blocks ahead of a guest', async () => ((await bootOf(volunteer)).profile?.unused ?? 0) > 50, {
      details: () => volunteer.process.tail()
    })
    expect((await bootOf(volunteer)).profile).toMatchObject({ from: 'release', voices: 1, touched: 0 })
    guest = boot({ disk: uri })
    await guest.waitFor(/APPLIANCE-READY 0 v1/, 120_000)
    expect(guest.console).not.toMatch(DISK_TROUBLE)
  })

  test('its boot touches what was recorded, and nothing else was fetched', async () => {
    const { fetched, boot: along } = (await volunteer.json(['status'])).machines[0]!
    const { of, touched, passed, unused } = along!.profile!
    expect(of).toBeGreaterThan(100)
    expect({ touched, passed, unused }).toEqual({ touched: of, passed: of, unused: 0 })
    expect(fetched.blocks).toBe(of)
  })

  test('a time line tells how it started, and a live view how it goes', async () => {
    const trace = await volunteer.json(['status', '--trace', 'm'] as unknown as ['trace'])
    const order = trace.marks.map(({ what }) => what)
    expect(order[0]).toBe('attach')
    for (const [earlier, later] of [
      ['release found', 'dialling'],
      ['connected', 'greeted'],
      ['greeted', 'root of the index'],
      ['root of the index', 'first block'],
      ['disk is served', "the guest's first read"]
    ] as const) {
      expect(order, later).toContain(later)
      expect(order.indexOf(earlier), `${earlier}, then ${later}`).toBeLessThan(order.indexOf(later))
    }
    expect(trace).toMatchObject({ machine: 'm', budgetRoundTrips: 9 })
    expect(trace.firstBlock?.ms).toBeGreaterThan(0)

    const watch = start(ROWAN, ['status', '--watch', '--home', volunteer.home], { name: 'rowan status --watch' })
    await watch.waitForOutput(/down -[\s\S]*down \d[\s\S]*m: \d+ of \d+ blocks here/)
    expect(watch.stdout).toMatch(/boot █+ \d+ of \d+ blocks, \d+ fetched ahead, along the release's profile/)
    await watch.stop('SIGINT')
    await guest.powerOff()
  })
})
