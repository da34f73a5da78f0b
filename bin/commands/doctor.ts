/**
 * rowan doctor: what is well and what is not, with a daemon or without.
 */
import type { Command } from 'commander'
import { RowanError } from '../../src/errors.ts'
import type { DoctorRow } from '../../src/node/command-results.ts'
import type { Session } from '../session.ts'

export function addDoctor(program: Command, session: Session): void {
  program
    .command('doctor')
    .description("Check this host, the peer's reachability and the store.")
    .option('--repair', 'rebuild a damaged catalog; no daemon may run')
    .addHelpText(
      'after',
      `
Examples:
  rowan doctor
  rowan doctor --repair                     after CATALOG_CORRUPT; blocks and machines are kept`
    )
    .action(async (options: { repair?: boolean }) => {
      // Loaded here, because no other command needs the store.
      const { checkCatalog, checkHost } = await import('../../src/node/doctor.ts')
      const daemon = await findDaemon(session)
      if (options.repair === true) {
        if (daemon !== undefined) {
          const says = `the daemon of ${session.home.directory} is running (pid ${daemon.pid}); stop it first`
          throw new RowanError('HOME_IN_USE', says)
        }
        const { Catalog } = await import('../../src/store/catalog.ts')
        await Catalog.repair(session.home.catalog)
        session.say('the catalog was rebuilt')
      }
      const rows = [...(await checkHost(session.home)), await daemonRow(session, daemon)]
      if (daemon === undefined) rows.push(await checkCatalog(session.home))
      else rows.push(...(await session.call('doctor', {})))
      session.answer(rows, () => rows.map(rowText).join('\n'))
    })
}

async function findDaemon(session: Session): Promise<{ pid: number; version: string } | undefined> {
  try {
    return await session.client.ping()
  } catch (error) {
    if (error instanceof RowanError && error.code === 'DAEMON_NOT_RUNNING') return undefined
    throw error
  }
}

async function daemonRow(session: Session, daemon: { pid: number; version: string } | undefined): Promise<DoctorRow> {
  if (daemon === undefined) {
    return { check: 'daemon', ok: false, detail: 'not running', advice: 'Start it with `rowan up`.' }
  }
  const same = daemon.version === session.version
  const detail = `running, version ${daemon.version}, pid ${daemon.pid}`
  const advice = same ? '' : `This command line is version ${session.version}: start the daemon again.`
  return { check: 'daemon', ok: same, detail, advice }
}

function rowText({ check, ok, detail, advice }: DoctorRow): string {
  return `${ok ? ' ok ' : 'FAIL'}  ${check}: ${detail}${advice === '' ? '' : `\n      ${advice}`}`
}
