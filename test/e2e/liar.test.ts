/**
 * Peers that lie: a replica that serves wrong bytes, holders that offer an old release.
 */
import { cp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, test } from 'vitest'
import { boot, DISK_TROUBLE } from '../tools/boot.ts'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { errorCode, Peer } from '../tools/peers.ts'
import { endProcesses } from '../tools/processes.ts'
import { makeTinyAppliance } from '../tools/tiny-appliance.ts'
import { waitUntil } from '../tools/wait.ts'

const LIE = fileURLToPath(new URL('../tools/lying-replica.ts', import.meta.url))

afterEach(async () => {
  await endProcesses()
  await removeFolders()
})

test('wrong bytes are refused, their sender is dropped, and the boot goes on with an honest replica', async () => {
  const image = join(await temporaryFolder(), 'tiny.raw')
  await makeTinyAppliance(image, { reads: 100 })
  const publisher = await Peer.start()
  const grid = `${publisher.publisher}/grid`
  await publisher.json(['publish', image, 'grid@v1'])
  const liar = await Peer.start({ bootstrap: [publisher], env: { NODE_OPTIONS: `--import=${LIE}` } })
  await liar.json(['replicate', grid, '--wait'])
  const volunteer = await Peer.start({ bootstrap: [liar] })
  const { uri } = await volunteer.json(['attach', grid, '--as', 'm'])

  // Only the liar is left: the guest waits, and is given nothing but what the publisher gave before, the front of the disk at most.
  await publisher.kill()
  const guest = boot({ disk: uri })
  await waitUntil('the lie to be noticed', () => volunteer.log.includes('BLOCK_INVALID'), {
    details: () => volunteer.process.tail()
  })
  expect(volunteer.log).toContain(liar.id)
  expect((await volunteer.json(['status'])).machines[0]!.fetched.blocks).toBeLessThanOrEqual(8)
  expect(guest.console).not.toContain('APPLIANCE')

  await publisher.up()
  await guest.waitFor(/APPLIANCE-READY[\s\S]*APPLIANCE-WORK/, 90_000)
  expect(guest.console).not.toMatch(DISK_TROUBLE)
  const { exchanging } = await volunteer.json(['status'])
  expect(exchanging.map(({ peer }) => peer)).not.toContain(liar.id)

  // A restart does not make it honest: with nobody else there, it is not even called.
  await guest.powerOff()
  await publisher.kill()
  await volunteer.kill()
  await volunteer.up()
  await volunteer.joined()
  const filling = volunteer.run(['replicate', grid, '--wait'], { timeoutMs: 6_000 })
  await expect(filling).rejects.toThrow('took longer')
  expect((await volunteer.json(['status'])).exchanging.map(({ peer }) => peer)).not.toContain(liar.id)
  expect(volunteer.log).not.toContain('BLOCK_INVALID')
})

test('an older record offered by every holder is refused', async () => {
  const folder = await temporaryFolder()
  const [v1, v2] = [join(folder, 'v1.raw'), join(folder, 'v2.raw')]
  await makeTinyAppliance(v1, { version: 'v1' })
  await makeTinyAppliance(v2, { version: 'v2', changedBlocks: 5 })
  const publisher = await Peer.start()
  const replica = await Peer.start({ bootstrap: [publisher] })
  const grid = `${publisher.publisher}/grid`
  await publisher.json(['publish', v1, 'grid@v1'])
  await replica.json(['replicate', grid, '--wait'])

  // Everything that the network knows at this moment is kept aside.
  const holders = [publisher, replica]
  for (const [i, holder] of holders.entries()) {
    await holder.stop()
    await cp(holder.home, join(folder, `old-${i}`), { recursive: true, filter: source => !source.endsWith('.sock') })
    await holder.up()
  }
  await publisher.json(['publish', v2, 'grid@v2'])
  // A client, not a holder: it must find what it knows among the others.
  const volunteer = await Peer.start({ bootstrap: [publisher], args: ['--no-listen'] })
  expect((await volunteer.json(['attach', grid, '--as', 'first'])).version).toBe('v2')
  await volunteer.stop()

  for (const [i, holder] of holders.entries()) {
    await holder.stop()
    await rm(holder.home, { recursive: true })
    await cp(join(folder, `old-${i}`), holder.home, { recursive: true })
    await holder.up()
  }
  await volunteer.up()
  await volunteer.joined()

  // Somebody who never saw v2 cannot know better; the volunteer does, and is not taken back.
  const newcomer = await Peer.start({ bootstrap: [publisher], args: ['--no-listen'] })
  expect((await newcomer.json(['attach', grid, '--as', 'm'])).version).toBe('v1')
  const answer = await volunteer.run(['--json', 'attach', grid, '--as', 'second'])
  if (answer.status === 0) expect(JSON.parse(answer.stdout)).toMatchObject({ version: 'v2' })
  else expect(errorCode(answer)).toBe('LATEST_ROLLBACK')
  expect((await volunteer.run(['attach', `${grid}@v2`, '--as', 'first'])).status).toBe(0)
})
